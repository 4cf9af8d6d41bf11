"""A compiled model that is called with tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sendnn_openvino.library import DEVICE, failing_as, import_openvino
from sendnn_openvino.signal_stack import signal_stack_put_back
from sendnn_pipeline.backends.base import CompiledCall, CompiledProgram

if TYPE_CHECKING:
    import openvino
    import torch

BLOB = "program.blob"


@dataclass(frozen=True)
class OpenVINOProgram(CompiledProgram):
    """One compiled model, its weights within."""

    compiled: "openvino.CompiledModel"
    name: str

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return a call; its weights are the model's own."""
        import torch

        request = self.compiled.create_infer_request()

        def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            # Inputs are read where they are; outputs are copies, since the next call writes over its own.
            with failing_as(f"OpenVINO cannot run {self.name}", hint="backend=inductor may"):
                outputs = request.infer([tensor.numpy() for tensor in inputs], share_inputs=True)
                return tuple(torch.from_numpy(outputs[index]) for index in range(len(outputs)))

        return call

    def save(self, folder: Path) -> None:
        """Write what OpenVINO's own cache (``CACHE_DIR``) holds: the compiled model with its weights in it.

        The ``.xml`` and ``.bin`` before compilation would hold the weights once more, and take a compilation to open.
        """
        (folder / BLOB).write_bytes(self.compiled.export_model().getvalue())


def open_program(folder: Path, name: str, properties: Mapping[str, Any]) -> OpenVINOProgram:
    """Open what ``save`` wrote.

    Raises:
        BackendError: OpenVINO cannot open it.
    """
    with failing_as(f"OpenVINO cannot open {folder / BLOB}"), signal_stack_put_back():
        core = import_openvino().Core()
        return OpenVINOProgram(core.import_model((folder / BLOB).read_bytes(), DEVICE, dict(properties)), name)
