"""The dynamo backends, registered on import and by entry points alike."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch._dynamo.backends import registry

from torch_sendnn.device import device
from torch_sendnn.errors import DeviceError
from torch_sendnn.graph import DeviceGraph

DYNAMIC = "sendnn.dynamic"


def sendnn_backend(
    module: torch.fx.GraphModule, examples: Sequence[Any], options: Mapping[str, Any] | None = None, **others: Any
) -> DeviceGraph:
    """Compile for the card."""
    return _trace(module, examples, options, others, runs=True)


def compile_only_backend(
    module: torch.fx.GraphModule, examples: Sequence[Any], options: Mapping[str, Any] | None = None, **others: Any
) -> DeviceGraph:
    """Compile where there is no card."""
    if not device.environment.compiles_only:
        raise DeviceError("sendnn_compile_only needs FLEX_DEVICE=COMPILE")
    return _trace(module, examples, options, others, runs=False)


def _trace(
    module: torch.fx.GraphModule,
    examples: Sequence[Any],
    options: Mapping[str, Any] | None,
    others: Mapping[str, Any],
    *,
    runs: bool,
) -> DeviceGraph:
    if others or set(options or {}) - {DYNAMIC}:
        raise DeviceError(f"unknown options: {[*(options or {}), *others]}")
    if torch.is_inference_mode_enabled() or torch.is_grad_enabled():
        raise DeviceError("a graph is traced with gradients, or in inference mode; torch.no_grad is what it takes")
    graph = DeviceGraph(module, examples, dynamic=bool((options or {}).get(DYNAMIC)), runs=runs)
    device.trace(graph)
    return graph


for name, function in (("sendnn", sendnn_backend), ("sendnn_compile_only", compile_only_backend)):
    # A process that imports this package anew, as tests do, means the new one.
    registry._COMPILER_FNS.pop(name, None)
    registry.register_backend(function, name=name)

# Where an application looks what the library found in its environment; private, and named so.
setattr(
    sendnn_backend,
    "__state",
    SimpleNamespace(spyre_graph_cache=SimpleNamespace(deeptools_config={"config": device.environment.config()})),
)
