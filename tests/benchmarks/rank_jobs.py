"""What ranks do in ranks.py: exchange what a step exchanges, and say how long that takes."""

import time

import torch

from sendnn_pipeline.engines.group import close_group, open_group, sum_over_ranks
from sendnn_pipeline.messages import StageEvent

CALLS = 2000
# A decode of 64 sequences as the first rank tells it: ids, positions, slots, tables of 16 blocks.
STEP = ["decode", [[1] * 64, [1000] * 64, [64000] * 64, [list(range(16))] * 64]]


def exchange(port, run, world):
    """Time what a step exchanges; the sizes of sums come with the run's model."""
    torch.set_num_threads(1)
    open_group(world)
    say(port, world, "a step told and confirmed", timed(world, lambda: tell(world)))
    hidden = run.model.hidden_size
    for rows in (1, 64, 512):
        part = torch.ones(rows, hidden, dtype=getattr(torch, run.config.model.dtype))
        say(port, world, f"a sum of [{rows}, {hidden}]", timed(world, lambda part=part: sum_over_ranks(part)))
    close_group()


def tell(world):
    """Tell a step as an engine does, and wait until all have it."""
    world.broadcast(STEP)
    world.meet()


def timed(world, call):
    """Return the microseconds of each call, sorted."""
    for _ in range(CALLS // 10):
        call()
    world.meet()
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - began) / 1000)
    return sorted(taken)


def say(port, world, what, taken):
    """Report, as the first rank."""
    if not world.rank:
        p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
        port.send(StageEvent("exchange", "finished", detail=f"{what}: {p50:.0f} us, p99 {p99:.0f} us"))
