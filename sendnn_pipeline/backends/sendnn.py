"""IBM Spyre through torch_sendnn."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from sendnn_pipeline.backends.base import Limits, type_function
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.programs.program import PoolProgram


class SendnnBackend:
    """Knows what Spyre asks of Programs; driving the device is not part of this version."""

    name = "sendnn"

    def limits(self, run: "Run") -> Limits:
        """Ask for lengths in whole 64-token blocks; helpers run on the CPU."""
        return Limits(token_multiple=64, helpers=False)

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> NoReturn:
        """Refuse, saying what is missing."""
        if importlib.util.find_spec("torch_sendnn") is None:
            raise BackendError(
                "backend=sendnn needs torch_sendnn, which is not importable",
                hint="install IBM's torch_sendnn, or use backend=inductor",
            )
        raise BackendError(
            "torch_sendnn is importable, but this version does not drive it yet", hint="use backend=inductor"
        )

    def compile(
        self, program: "PoolProgram", function: type_function, example: "Sequence[torch.Tensor]", run: "Run"
    ) -> NoReturn:
        """Never reached: ``prepare`` refuses."""
        raise BackendError(f"{program.name} cannot be compiled for sendnn by this version")

    def compile_helper(self, function: type_function) -> NoReturn:
        """Never reached: ``limits`` says so."""
        raise BackendError("sendnn compiles no helper graphs")

    def fingerprint(self) -> str:
        """Return torch_sendnn's version."""
        from importlib.metadata import version

        return f"torch_sendnn {version('torch_sendnn')}"
