"""IBM Spyre through torch_sendnn."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from sendnn_pipeline.backends.base import Graph, Limits, NotPortable
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class SendnnConfig(BackendConfig):
    """Options of ``backend=sendnn``."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the device's library must find when it is imported; those that are set already stay."""


class SendnnBackend(NotPortable):
    """Knows what Spyre asks of Programs; driving the device is not part of this version."""

    name = "sendnn"

    def limits(self, config: "RunConfig") -> Limits:
        """Ask for lengths in whole 64-token blocks, by default the registry's 64x1; helpers run on the CPU."""
        return Limits(token_multiple=64, helpers=False, default_shapes=("64x1",))

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

    def compile(self, graph: Graph, run: "Run") -> NoReturn:
        """Never reached: ``prepare`` refuses."""
        raise BackendError(f"{graph.name} cannot be compiled for sendnn by this version")

    def embeds_weights(self, run: "Run") -> bool:
        """Say yes: a device Program holds its weights."""
        return True

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return torch_sendnn's version."""
        from importlib.metadata import version

        return {"torch_sendnn": version("torch_sendnn")}
