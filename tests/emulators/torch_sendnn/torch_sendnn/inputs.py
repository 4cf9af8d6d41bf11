"""What a graph takes: which inputs are the model's, which are a call's, and what is the KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torch_sendnn.errors import DeviceError

STORE, COMPUTE = "paged_attn_store", "paged_attn_compute"
# Where the ops of paged attention have them: (name, position).
STORE_ARGUMENTS = (("k_cache", 2), ("v_cache", 3), ("slot_mapping", 4))
COMPUTE_ARGUMENTS = (("current_tkv_mask", 4), ("left_padded_prompt_mask", 5), ("block_table", 6))


@dataclass(frozen=True)
class Inputs:
    """Positions of a graph's inputs, by what they are."""

    names: tuple[str, ...]
    model: frozenset[int]
    """Parameters and buffers: static on the card."""
    kv: tuple[int, ...]
    roles: dict[str, int]
    """Of a decoder: ``slot_mapping``, ``block_table`` and both masks."""

    @property
    def paged(self) -> bool:
        """Whether the graph attends to a paged cache."""
        return bool(self.kv)

    def primary(self, arguments: Sequence[Any]) -> list[tuple[int, torch.Tensor]]:
        """Return the tensors of a call that are neither the model's nor the cache."""
        return [
            (index, argument)
            for index, argument in enumerate(arguments)
            if isinstance(argument, torch.Tensor) and index not in self.model and index not in self.kv
        ]


def find_inputs(module: torch.fx.GraphModule, examples: Sequence[Any]) -> Inputs:
    """Sort the inputs of a graph."""
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    position = {node: index for index, node in enumerate(places)}
    model = frozenset(
        index
        for index, (node, example) in enumerate(zip(places, examples, strict=True))
        if isinstance(example, nn.Parameter)
        or "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})
        or isinstance(node.meta.get("example_value"), nn.Parameter)
    )
    kv: list[int] = []
    roles: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or "spyre." not in str(node.target):
            continue
        arguments = STORE_ARGUMENTS if STORE in str(node.target) else COMPUTE_ARGUMENTS
        for name, place in arguments:
            argument = node.kwargs[name] if name in node.kwargs else node.args[place]
            if argument not in position:
                raise DeviceError(f"{name} of {node.target} is computed in the graph, and must be an input")
            if name in ("k_cache", "v_cache"):
                kv.append(position[argument])
            else:
                roles[name] = position[argument]
    return Inputs(tuple(node.name for node in places), model, tuple(kv), roles)


def check_tensors(inputs: Inputs, arguments: Sequence[Any]) -> None:
    """Refuse what the card cannot take, whatever the graph."""
    for index, argument in enumerate(arguments):
        if not isinstance(argument, torch.Tensor):
            continue
        name = inputs.names[index]
        if argument.device.type != "cpu":
            raise DeviceError(f"{name} is on {argument.device}: tensors come and go on the CPU")
        if not argument.numel():
            raise DeviceError(f"{name} is empty, which hangs the device")
        if argument.requires_grad:
            raise DeviceError(f"{name} wants gradients")
        floats = argument.dtype.is_floating_point
        if floats and argument.dtype != torch.float16 and (index not in inputs.model or _is_weight(argument)):
            raise DeviceError(f"{name} is {argument.dtype}, and the card computes float16")
        if index not in inputs.model and not floats and argument.dtype not in (torch.int64, torch.bool):
            raise DeviceError(f"{name} is {argument.dtype}, and integers are int64")


def _is_weight(argument: torch.Tensor) -> bool:
    return isinstance(argument, nn.Parameter)
