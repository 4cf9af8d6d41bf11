"""The backend."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Graph, Limits, type_function
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig


class OpenVINOBackend:
    """Compiles Programs of one size each, in float32."""

    name = "openvino"

    def limits(self, config: "RunConfig") -> Limits:
        """Take float32 and fixed sizes; helper graphs have ranges, and one step computes on all threads."""
        return Limits(dtypes=("float32",), helpers=False)

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Look for the library, without importing it.

        Raises:
            BackendError: it is not installed.
        """
        if find_spec("openvino") is None:
            raise BackendError(
                "backend=openvino needs the package openvino, which is not installed",
                hint="pip install 'openvino>=2026.4,<2027'",
            )
        return {}

    def compile(self, graph: Graph, run: "Run") -> type_function:
        """Convert ``graph`` whole and run it once, so that what fails fails here.

        Raises:
            BackendError: OpenVINO cannot do it.
        """
        from sendnn_openvino.conversion import convert
        from sendnn_openvino.program import OpenVINOProgram

        program = OpenVINOProgram(convert(graph, run), graph.name)
        program(*graph.example)
        return program

    def save(self, compiled: type_function, folder: Path) -> None:
        """Write the compiled model."""
        from sendnn_openvino.program import OpenVINOProgram

        assert isinstance(compiled, OpenVINOProgram)
        compiled.save(folder)

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> type_function:
        """Open a compiled model; its weights are its own.

        Raises:
            BackendError: OpenVINO cannot open it.
        """
        from sendnn_openvino.program import OpenVINOProgram

        return OpenVINOProgram.open(folder, run)

    def portable(self, run: "Run") -> bool:
        """Say yes."""
        return True

    def embeds_weights(self, run: "Run") -> bool:
        """Say yes: constants are packed for the CPU when a model is compiled."""
        return True

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return the versions of what traces, converts and compiles; threads are chosen when a model is opened."""
        return {name: version(name) for name in ("openvino", "torch", "sendnn-pipeline-openvino")}
