"""PyTorch's own compiler, for CPUs."""

import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, cast

from sendnn_pipeline.backends.base import Limits, type_function
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.programs.program import PoolProgram


@dataclass(frozen=True, kw_only=True)
class InductorConfig(BackendConfig):
    """Options of ``backend=inductor``."""

    freezing: bool = False
    """Fold the weights into each Program, prepacked; torch's caches are bypassed then, so every start compiles."""


class InductorBackend:
    """Compiles each Program with torch.compile as one full, static graph."""

    name = "inductor"

    def limits(self, run: "Run") -> Limits:
        """Ask nothing of the Programs."""
        return Limits()

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Find the C++ compiler and Python's headers, and make the folder of compiled code."""
        compiler = environ.get("CXX", "g++")
        if shutil.which(compiler, path=environ.get("PATH")) is None:
            raise BackendError(
                f"backend=inductor needs a C++ compiler, and {compiler} is not on PATH",
                hint="install g++, set CXX, or use backend=eager",
            )
        header = Path(sysconfig.get_paths()["include"]) / "Python.h"
        if not header.is_file():
            raise BackendError(
                f"backend=inductor needs Python's headers, and {header} is missing",
                hint="install the python3-dev package, or use backend=eager",
            )
        folder = Path(environ.get("TORCHINDUCTOR_CACHE_DIR") or run.cache_dir / "inductor")
        check_writable(folder)
        return {"TORCHINDUCTOR_CACHE_DIR": str(folder)}

    def compile(
        self, program: "PoolProgram", function: type_function, example: "Sequence[torch.Tensor]", run: "Run"
    ) -> type_function:
        """Compile a copy of ``function`` with a code object of its own: shapes of one code object share a limit."""
        import torch
        from torch._inductor import config as inductor_config

        own = _own_code(cast("FunctionType", function), program.name)
        compiled = torch.compile(own, fullgraph=True, dynamic=False, backend="inductor")
        freezing = cast("InductorConfig", run.config.backend).freezing
        try:
            with inductor_config.patch(freezing=freezing):
                compiled(*example)
        except Exception as error:
            raise BackendError(
                f"{program.name} does not compile: {type(error).__name__}: {str(error).splitlines()[0]}",
                hint="backend=eager runs without a compiler",
            ) from error
        return cast("type_function", compiled)

    def compile_helper(self, function: type_function) -> type_function:
        """Compile one graph for every size of the first dimension, which the caller marks unbacked."""
        import torch

        return cast("type_function", torch.compile(function, fullgraph=True, backend="inductor"))

    def fingerprint(self) -> str:
        """Return torch's version."""
        return f"torch {version('torch')}"


def check_writable(folder: Path) -> None:
    """Make ``folder`` and prove that files can be written there.

    Raises:
        BackendError: they cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(
            f"the compiler's cache {folder} cannot be written: {error.strerror}",
            hint="set cache_dir= to a folder that can",
        ) from None


def _own_code(function: FunctionType, name: str) -> FunctionType:
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
