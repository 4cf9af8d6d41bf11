"""No compiler: the function as it is, for debugging and tests."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend, CompiledCall, CompiledProgram, Graph, Limits
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


@dataclass(frozen=True)
class EagerProgram(CompiledProgram):
    """A graph that runs uncompiled."""

    graph: Graph

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return the function over these weights; over its own where the graph names no parameters."""
        function, names = self.graph.function, self.graph.parameters()
        if not names:
            return function
        from torch.func import functional_call

        try:
            bound = {name: weights[original] for name, original in names.items()}
        except KeyError as error:
            raise BackendError(f"{self.graph.name} reads the weight {error}, which the checkpoint lacks") from None
        return lambda *inputs: functional_call(function, bound, inputs)


class EagerBackend(CompileBackend):
    """Runs Programs uncompiled, at any size."""

    name = "eager"
    limits = Limits(ranges=True, in_place=True, exchangeable_weights=True, helpers=True)

    def __init__(self, options: BackendConfig) -> None:
        self.options = options

    def compile(self, graph: Graph) -> EagerProgram:
        """Return the graph as it is."""
        return EagerProgram(graph)

    def fingerprint(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": version("torch")}
