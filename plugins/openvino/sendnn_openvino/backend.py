"""The backend: Programs of one size each, in float32."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_openvino.config import OpenVINOConfig
from sendnn_pipeline.backends.base import CompileBackend, Graph, Limits
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    from sendnn_openvino.program import OpenVINOProgram


class OpenVINOBackend(CompileBackend):
    """Compiles with OpenVINO, on the CPU; one step computes on all threads."""

    name = "openvino"
    # Constants are packed for the CPU when a model is compiled, so each Program holds the weights.
    limits = Limits(dtypes=("float32",), embeds_weights=("float32",), artifacts="files")

    def __init__(self, options: OpenVINOConfig) -> None:
        self.options = options

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
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

    def compile(self, graph: Graph) -> "OpenVINOProgram":
        """Convert ``graph`` whole.

        Raises:
            BackendError: OpenVINO cannot do it.
        """
        from sendnn_openvino.conversion import convert
        from sendnn_openvino.library import properties
        from sendnn_openvino.program import OpenVINOProgram

        return OpenVINOProgram(convert(graph, properties(self.options)), graph.name)

    def open(self, folder: Path, graph: Graph) -> "OpenVINOProgram":
        """Open a compiled model.

        Raises:
            BackendError: OpenVINO cannot open it.
        """
        from sendnn_openvino.library import properties
        from sendnn_openvino.program import open_program

        return open_program(folder, graph.name, properties(self.options))

    def fingerprint(self) -> dict[str, str]:
        """Return the versions of what traces, converts and compiles; threads are chosen when a model is opened."""
        return {name: version(name) for name in ("openvino", "torch", "sendnn-pipeline-openvino")}
