"""What is registered under ``openvino``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_openvino.backend import OpenVINOBackend
from sendnn_openvino.config import OpenVINOConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run


@hookimpl
def config_paths() -> Path:
    """Return the folder of the option and of its variables."""
    return Path(__file__).parent / "conf"


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the option's keys."""
    store("backend", "openvino", OpenVINOConfig)


@hookimpl
def register_compile_backends(register: Callable[[str, type], None]) -> None:
    """Register openvino."""
    register("openvino", OpenVINOBackend)


@hookimpl
def check_config(run: "Run") -> list[str]:
    """Refuse pinned threads on a part of the CPUs: every such run would take the first ones."""
    chosen, counted = run.config.backend, run.config.process.num_cpus
    allowed = len(os.sched_getaffinity(0))
    if isinstance(chosen, OpenVINOConfig) and chosen.pin_threads and 0 < counted < allowed:
        return [
            f"backend.pin_threads=true takes the first {counted} of {allowed} CPUs, and so would the next run with "
            f"process.num_cpus={counted}; start each with taskset instead of process.num_cpus"
        ]
    return []
