"""Cards of one group: each is driven by a process, and all by the same calls in the same order."""

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _resolve_process_group

from torch_sendnn.errors import DeviceError

GROUP = "default"
# What is translated for the card, all over gloo's group of that name or one that torch knows.
COLLECTIVES = ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "wait_tensor")


def size() -> int:
    """Return how many cards compute together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_same(call: str) -> None:
    """Refuse a call that the other cards do not make now, on which a real one would wait for ever."""
    if size() == 1:
        return
    calls: list[str] = [""] * size()
    dist.all_gather_object(calls, call)
    if len(set(calls)) > 1:
        raise DeviceError(f"cards of one group are called apart: {'; '.join(calls)}")


def check_collectives(module: torch.fx.GraphModule) -> None:
    """Refuse what a graph exchanges in ways that are not translated, and one of several that exchanges nothing."""
    nodes = [node for node in module.graph.nodes if "c10d" in str(node.target)]
    for node in nodes:
        name = str(node.target).split(".")[1]
        if name not in COLLECTIVES:
            raise DeviceError(f"{node.target} is not translated for the card")
        if name == "all_reduce" and node.args[1] != "sum":
            raise DeviceError(f"all_reduce of {node.args[1]}, and the card sums")
        if name != "wait_tensor" and node.args[-1] != GROUP:
            _resolve_process_group(node.args[-1])
    if size() > 1 and not nodes:
        raise DeviceError("a graph for one of several cards that exchanges nothing with the others")
