"""The backend and its options."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend, Graph, Limits
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_zentorch.library import check_installed

if TYPE_CHECKING:
    from sendnn_zentorch.program import ZentorchProgram


@dataclass(frozen=True, kw_only=True)
class ZentorchConfig(BackendConfig):
    """Options of ``backend=zentorch``."""

    freezing: bool = False
    """Whether each Program holds the weights, packed when it is compiled, those of query, key and value as one."""


class ZentorchBackend(CompileBackend):
    """Compiles ahead of time with PyTorch's AOTInductor and zentorch's pass."""

    name = "zentorch"

    def __init__(self, options: ZentorchConfig) -> None:
        self.freezing = options.freezing
        # bfloat16 and float16 need AVX-512 and are not verified; helper Programs have nothing that zentorch replaces.
        self.limits = Limits(
            dtypes=("float32",),
            ranges=True,
            embeds_weights=("float32",) if options.freezing else (),
            in_place=True,
            artifacts="files",
        )

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
        """Check the installed library, and have the compiler's cache where the others are.

        Raises:
            BackendError: zentorch is not installed, or was built for another torch.
        """
        check_installed()
        # PyTorch's own default is a folder of /tmp with the user's name.
        return {"TORCHINDUCTOR_CACHE_DIR": environ.get("TORCHINDUCTOR_CACHE_DIR") or str(cache_dir / "inductor")}

    def compile(self, graph: Graph) -> "ZentorchProgram":
        """Compile ahead of time.

        Raises:
            BackendError: it does not compile, or zentorch replaced nothing in it.
        """
        from sendnn_zentorch.program import compile_program

        return compile_program(graph, freezing=self.freezing)

    def open(self, folder: Path, graph: Graph) -> "ZentorchProgram":
        """Open compiled code.

        Raises:
            BackendError: it or zentorch cannot be loaded.
        """
        from sendnn_zentorch.program import open_program

        return open_program(folder, graph.name)

    def fingerprint(self) -> dict[str, str]:
        """Return the versions, and what decides the code that is generated."""
        names = ("torch", "zentorch", "sendnn-pipeline-zentorch")
        return {name: version(name) for name in names} | {"freezing": str(self.freezing).lower()}
