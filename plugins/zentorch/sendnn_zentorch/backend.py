"""The backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sendnn_pipeline.backends.base import Graph, Limits, type_function
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_zentorch.library import check_installed

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig
    from sendnn_zentorch.program import Program


@dataclass(frozen=True, kw_only=True)
class ZentorchConfig(BackendConfig):
    """Options of ``backend=zentorch``."""

    freezing: bool = False
    """Whether each Program holds the weights, packed when it is compiled, those of query, key and value as one."""


class ZentorchBackend:
    """Compiles ahead of time with PyTorch's AOTInductor and zentorch's pass."""

    name = "zentorch"

    def limits(self, config: "RunConfig") -> Limits:
        """Take any size, and float32: bfloat16 and float16 need AVX-512 and are not verified.

        No helpers: they have nothing that zentorch replaces.
        """
        return Limits(dtypes=("float32",), ranges=True, helpers=False)

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Check the installed library, and keep compiled code where other caches are.

        Raises:
            BackendError: zentorch is not installed, or was built for another torch.
        """
        check_installed()
        # PyTorch's own default is a folder of /tmp with the user's name.
        return {"TORCHINDUCTOR_CACHE_DIR": environ.get("TORCHINDUCTOR_CACHE_DIR") or str(run.cache_dir / "inductor")}

    def compile(self, graph: Graph, run: "Run") -> type_function:
        """Compile ahead of time.

        Raises:
            BackendError: it does not compile, or zentorch replaced nothing in it.
        """
        from sendnn_zentorch.program import compile_program

        return compile_program(graph, freezing=self.embeds_weights(run))

    def save(self, compiled: type_function, folder: Path) -> None:
        """Write the compiled code and the names of the weights it reads."""
        cast("Program", compiled).save(folder)

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> type_function:
        """Open compiled code.

        Raises:
            BackendError: it or zentorch cannot be loaded.
        """
        from sendnn_zentorch.program import load_program

        return load_program(folder, weights)

    def portable(self, run: "Run") -> bool:
        """Say yes: what is generated calls zentorch by name, and finds it in any process that has imported it."""
        return True

    def embeds_weights(self, run: "Run") -> bool:
        """Say whether weights are frozen."""
        return cast("ZentorchConfig", run.config.backend).freezing

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return the versions, and what decides the code that is generated."""
        names = ("torch", "zentorch", "sendnn-pipeline-zentorch")
        return {name: version(name) for name in names} | {"freezing": str(self.embeds_weights(run)).lower()}
