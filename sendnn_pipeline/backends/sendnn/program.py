"""A graph as dynamo hands it to torch_sendnn: code of its own, and inputs marked as the device wants them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from sendnn_pipeline.backends.base import CompiledCall, CompiledProgram, Graph
from sendnn_pipeline.backends.sendnn.marks import mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class SendnnProgram(CompiledProgram):
    """What dynamo compiles when it first runs, which is in the backend's ``tracing``."""

    graph: Graph
    call: CompiledCall
    is_tracing: Callable[[], bool]

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return the call over the parameters of the graph's own module, which the device takes when it deploys it."""
        return self._run

    def _run(self, *inputs: torch.Tensor) -> "Sequence[torch.Tensor]":
        # Sizes of a decoder are told at every call, those of static graphs to the compiler alone.
        if self.graph.decoder or self.is_tracing():
            mark(self.graph, inputs)
        return self.call(*inputs)


def compile_graph(graph: Graph, dynamo_backend: str, is_tracing: Callable[[], bool]) -> SendnnProgram:
    """Return the Program, to be compiled by its first call.

    Args:
        graph: what is compiled.
        dynamo_backend: by its registered name.
        is_tracing: whether the backend is in ``tracing``.
    """
    module = with_own_code(graph.function, graph.name).eval().requires_grad_(False)
    if graph.decoder:
        call = torch.compile(module, fullgraph=True, backend=dynamo_backend, options={"sendnn.dynamic": True})
    else:
        call = torch.compile(module, mode="default", dynamic=False, fullgraph=True, backend=dynamo_backend)
    return SendnnProgram(graph, cast("CompiledCall", call), is_tracing)


def with_own_code(module: nn.Module, name: str) -> nn.Module:
    """Return the module, over the same tensors, with a ``forward`` whose code no other Program has.

    Dynamo keeps what it compiled by code, for a few sizes, and looks through all of them at every call.
    """
    kind, forward = type(module), cast("FunctionType", type(module).forward)
    code = forward.__code__.replace(co_name=name)
    own = FunctionType(code, forward.__globals__, name, forward.__defaults__, forward.__closure__)
    other = copy.copy(module)
    other.__class__ = type(kind.__name__, (kind,), {"forward": own, "__module__": kind.__module__})
    return other
