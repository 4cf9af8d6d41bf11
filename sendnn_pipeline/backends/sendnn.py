"""IBM Spyre through torch_sendnn."""

import importlib.util
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from sendnn_pipeline.backends.base import DTYPES, CompileBackend, Graph, Limits
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.errors import BackendError


class SendnnBackend(CompileBackend):
    """Knows what Spyre asks of Programs; driving the device is not part of this version."""

    name = "sendnn"
    # Lengths in whole 64-token blocks, by default the registry's 64x1; a device Program holds its weights.
    limits = Limits(token_multiple=64, default_shapes=("64x1",), embeds_weights=DTYPES)

    def __init__(self, options: SendnnConfig) -> None:
        self.options = options

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> NoReturn:
        """Refuse, with what is missing."""
        if importlib.util.find_spec("torch_sendnn") is None:
            raise BackendError(
                "backend=sendnn needs torch_sendnn, which is not importable",
                hint="install IBM's torch_sendnn, or use backend=inductor",
            )
        raise BackendError(
            "torch_sendnn is importable, but this version does not drive it yet", hint="use backend=inductor"
        )

    def compile(self, graph: Graph) -> NoReturn:
        """Never reached: ``prepare`` refuses."""
        raise BackendError(f"{graph.name} cannot be compiled for sendnn by this version")

    def fingerprint(self) -> dict[str, str]:
        """Return torch_sendnn's version."""
        return {"torch_sendnn": version("torch_sendnn")}
