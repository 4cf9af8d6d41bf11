"""OpenVINO itself: how it is imported, how models are compiled by it, and how its failures read."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sendnn_openvino.config import OpenVINOConfig
from sendnn_pipeline.errors import BackendError

DEVICE = "CPU"


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry; nothing else here may be first to import it."""
    # Where nobody opted out, `import openvino` alone writes a client id into the home folder and sends usage data.
    # Without the package that does it OpenVINO takes a stub; None in sys.modules is Python's word for "not importable".
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino  # type: ignore[no-any-return]


def properties(options: OpenVINOConfig) -> dict[str, Any]:
    """Return what a model is compiled with, and opened with again."""
    import torch

    return {
        # The run's: the engine process tells torch, and OpenVINO would count the CPUs by itself.
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # OpenVINO computes float32 models in bfloat16 where the CPU has it, unless told not to.
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": options.pin_threads,
    }


@contextmanager
def failing_as(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn whatever fails within into one line that names the operations OpenVINO names.

    Raises:
        BackendError: something failed; ``what`` begins the message.
    """
    try:
        yield
    except Exception as error:
        raise BackendError(f"{what}: {_reason(str(error))}", hint=hint) from error


def _reason(report: str) -> str:
    """Return the summary of a conversion report, the innermost of OpenVINO's nested reasons, or the first line."""
    named = re.findall(r"^-- (.*: .+)$", report.rpartition("Summary:")[2], flags=re.MULTILINE)
    lines = [line for line in report.splitlines() if line.strip()] or ["no reason given"]
    nested = lines[0].startswith(("Exception from ", "Check '"))
    return ("; ".join(named) or lines[-1 if nested else 0])[:300]
