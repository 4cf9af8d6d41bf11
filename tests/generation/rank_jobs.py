"""What ranks do in test_rank_warmup.py and test_rank_hosts.py."""

import os
import signal
from itertools import count

import torch

from sendnn_pipeline.engines.group import close_group, open_group, sum_over_ranks
from sendnn_pipeline.generation.core import GenerationCore
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.rank import run_rank


def add_up(port, run, world):
    """Form the group, and add up what each rank has."""
    open_group(world)
    total = int(sum_over_ranks(torch.tensor([world.rank + 1])))
    port.send(StageEvent("load", "finished", detail=f"{os.uname().nodename} {total}"))
    close_group()


def stop_in_warmup(port, run, world):
    """Run the stages; the second rank stops itself before a step of warmup, of which the first waits for sums."""
    disturb(world, signal.SIGSTOP)
    run_rank(port, run, world)


def die_in_warmup(port, run, world):
    """Run the stages; the second rank is killed there."""
    disturb(world, signal.SIGKILL)
    run_rank(port, run, world)


def disturb(world, number):
    """Have the second rank send itself a signal before its fourth step."""
    if not world.rank:
        return
    rehearse, calls = GenerationCore.rehearse, count()

    def disturbed(self, *arguments, **options):
        if next(calls) == 3:
            os.kill(os.getpid(), number)
        return rehearse(self, *arguments, **options)

    GenerationCore.rehearse = disturbed
