"""The beginning of a process that may run something: when it was, and what is under way since."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sendnn_pipeline.distributed.standby import Standby, start_standby
from sendnn_pipeline.machine.cpu import count_cpus, read_cpu_facts, thread_variables, threads_per_worker

# A flag may mean that nothing is run; an engine that is named may be one without torch.
OTHERS = ("-", "engine=")


@dataclass(frozen=True)
class Launch:
    """When this process began, in monotonic seconds, and the engine's process that imports torch meanwhile."""

    started: float
    standby: Standby | None = None


@contextmanager
def launching(argv: Sequence[str], environ: Mapping[str, str]) -> Iterator[Launch]:
    """Yield the launch of a command line; a standby that was not taken ends with the block.

    Composing takes half a second, importing torch a whole one: at once they take as long as torch alone. The variables
    of threads are those of a run that says nothing of them; another one starts its engine anew.
    """
    started, standby = time.monotonic(), None
    cpus, _ = count_cpus(0, read_cpu_facts())
    if cpus is not None and all("=" in word and not word.startswith(OTHERS) for word in argv):
        try:
            standby = start_standby(environ, thread_variables(threads_per_worker(cpus, 1)))
        except OSError:
            # The engine's own start says what is wrong, where there is one.
            standby = None
    try:
        yield Launch(started, standby)
    finally:
        if standby is not None:
            standby.close()
