"""No compiler: the function as it is, for debugging and tests."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Limits, type_function

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.programs.program import PoolProgram


class EagerBackend:
    """Runs Programs uncompiled."""

    name = "eager"

    def limits(self, run: "Run") -> Limits:
        """Ask nothing of the Programs."""
        return Limits()

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Need nothing."""
        return {}

    def compile(
        self, program: "PoolProgram", function: type_function, example: "Sequence[torch.Tensor]", run: "Run"
    ) -> type_function:
        """Return ``function`` after running it once."""
        function(*example)
        return function

    def compile_helper(self, function: type_function) -> type_function:
        """Return ``function``."""
        return function

    def fingerprint(self) -> str:
        """Return torch's version."""
        from importlib.metadata import version

        return f"torch {version('torch')}"
