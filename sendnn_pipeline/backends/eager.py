"""No compiler: the function as it is, for debugging and tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sendnn_pipeline.backends.base import Graph, Limits, type_function
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig


class EagerBackend:
    """Runs Programs uncompiled."""

    name = "eager"

    def limits(self, config: "RunConfig") -> Limits:
        """Take any size."""
        return Limits(ranges=True)

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Need nothing."""
        return {}

    def compile(self, graph: Graph, run: "Run") -> type_function:
        """Return the function after running it once."""
        graph.function(*graph.example)
        return graph.function

    def save(self, compiled: type_function, folder: Path) -> bool:
        """Keep nothing: there is nothing to keep."""
        return False

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> NoReturn:
        """Never reached: nothing is portable."""
        raise BackendError("backend=eager keeps no artifacts")

    def portable(self, run: "Run") -> bool:
        """Say no."""
        return False

    def embeds_weights(self, run: "Run") -> bool:
        """Say no."""
        return False

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return torch's version."""
        from importlib.metadata import version

        return {"torch": version("torch")}
