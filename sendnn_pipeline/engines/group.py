"""The group in which the tensors of several ranks meet: torch's own, over gloo."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore, TCPStore, _register_process_group
from torch.distributed.distributed_c10d import GroupName, _get_default_group

from sendnn_pipeline.errors import EngineError, NobodyThereError
from sendnn_pipeline.models.shards import ShardPlan

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.rendezvous import Rendezvous
    from sendnn_pipeline.distributed.world import World

# The group of all ranks, in compiled code, too: the name by which a device's compiler knows it.
GROUP = "default"


def open_store(rendezvous: "Rendezvous", rank: int, timeout_seconds: float) -> "Rendezvous":
    """Return a rendezvous with torch's store at its address, which the first rank hosts.

    Args:
        rendezvous: where it is.
        rank: of this process.
        timeout_seconds: how long to wait for the first rank.

    Raises:
        NobodyThereError: nobody hosts it.
    """
    listening, timeout = rendezvous.listening, timedelta(seconds=timeout_seconds)
    descriptor: dict[str, Any] = {} if listening is None else {"master_listen_fd": listening.detach()}
    try:
        place = rendezvous.host, rendezvous.port
        store = TCPStore(*place, None, rank == 0, timeout, wait_for_workers=False, **descriptor)
    except (RuntimeError, ValueError) as error:
        raise NobodyThereError(
            f"node 0 does not answer at {rendezvous} within {timeout_seconds:g} s",
            hint="is it started, with parallel.node_rank=0, and is the network between the nodes open?",
        ) from error
    return replace(rendezvous, store=store, listening=None)


def open_group(world: "World") -> None:
    """Form the group of all ranks of this process's world.

    Raises:
        EngineError: the ranks did not meet.
    """
    rendezvous = world.rendezvous
    assert rendezvous is not None, "a world of several ranks has a place to meet"
    timeout = timedelta(minutes=rendezvous.timeout_minutes)
    if rendezvous.store is None:
        rendezvous = open_store(rendezvous, world.rank, timeout.total_seconds())
    try:
        store = PrefixStore("gloo", rendezvous.store)
        dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size, timeout=timeout)
        _register_process_group(GroupName(GROUP), _get_default_group())
    except (RuntimeError, ValueError) as error:
        raise EngineError(
            f"the ranks did not meet at {rendezvous}: {' '.join(str(error).split())[:300]}",
            hint="is the port free, and parallel.gloo_timeout_minutes long enough?",
        ) from error


def sum_over_ranks(part: torch.Tensor) -> torch.Tensor:
    """Return the sum of what all ranks have; part of a graph as well."""
    functional = torch.ops._c10d_functional
    total: torch.Tensor = functional.wait_tensor(functional.all_reduce(part.contiguous(), "sum", GROUP))
    return total


def sum_parts(model: nn.Module, plan: ShardPlan) -> None:
    """Have every product of which ranks have parts return the whole sum."""
    for name, module in model.named_modules():
        if plan.sums(name):
            module.register_forward_hook(lambda _module, _inputs, output: sum_over_ranks(output))


def close_group() -> None:
    """Leave it, where it was formed."""
    if dist.is_initialized():
        dist.destroy_process_group()
