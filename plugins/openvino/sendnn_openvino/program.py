"""A compiled model that is called with tensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from sendnn_openvino.library import DEVICE, failing_as, import_openvino, properties

if TYPE_CHECKING:
    import openvino
    import torch

    from sendnn_pipeline.config.resolve import Run

BLOB = "program.blob"


class OpenVINOProgram:
    """Runs one compiled model, one call at a time."""

    def __init__(self, compiled: "openvino.CompiledModel", name: str) -> None:
        self.compiled = compiled
        self.name = name
        self._request = compiled.create_infer_request()

    def __call__(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """Compute. Inputs are read where they are; the output is a copy, since the next call writes over its own.

        Raises:
            BackendError: OpenVINO fails; nothing else computes it instead.
        """
        import torch

        with failing_as(f"OpenVINO cannot run {self.name}", hint="backend=inductor may"):
            outputs = self._request.infer([given.numpy() for given in inputs], share_inputs=True)
            return torch.from_numpy(outputs[0])

    def save(self, folder: Path) -> None:
        """Write what OpenVINO's own cache (``CACHE_DIR``) holds: the compiled model with its weights in it.

        The ``.xml`` and ``.bin`` before compilation would hold the weights once more, and take a compilation to open.
        """
        (folder / BLOB).write_bytes(self.compiled.export_model().getvalue())

    @classmethod
    def open(cls, folder: Path, run: "Run") -> Self:
        """Open what ``save`` wrote.

        Raises:
            BackendError: OpenVINO cannot open it.
        """
        with failing_as(f"OpenVINO cannot open {folder / BLOB}", hint=f"remove {folder}, and it is compiled again"):
            core = import_openvino().Core()
            return cls(core.import_model((folder / BLOB).read_bytes(), DEVICE, properties(run)), folder.name)
