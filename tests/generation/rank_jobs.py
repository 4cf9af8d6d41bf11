"""What ranks do in test_rank_warmup.py."""

import os
import signal
from itertools import count

from sendnn_pipeline.generation.core import GenerationCore
from sendnn_pipeline.pipeline.rank import run_rank


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
