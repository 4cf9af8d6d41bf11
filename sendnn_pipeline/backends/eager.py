"""No compiler: the function as it is, for debugging and tests."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Graph, Limits, NotPortable, type_function

if TYPE_CHECKING:
    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig


class EagerBackend(NotPortable):
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

    def embeds_weights(self, run: "Run") -> bool:
        """Say no."""
        return False

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return torch's version."""
        from importlib.metadata import version

        return {"torch": version("torch")}
