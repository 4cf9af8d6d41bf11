"""Several steps at once: each computed in a thread of its own, on its share of the processor's threads."""

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class StepPool(Generic[T]):
    """Computes up to ``size`` steps at a time; results are taken by the thread that started them.

    One thread a step is faster than two that meet after every kernel; a step that runs alone gets them all.

    Args:
        size: most steps at once.
        threads: of all steps together.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.threads, self.running = size, threads, 0
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._done: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._executor = ThreadPoolExecutor(size, thread_name_prefix="step")

    @property
    def has_room(self) -> bool:
        """Whether one more step may start."""
        return self.running < self.size

    def start(self, compute: Callable[[], T], *, alone: bool) -> None:
        """Have ``compute``, which does not raise, called in a thread.

        Args:
            compute: the step.
            alone: whether no other step runs beside it.
        """
        self.running += 1
        self._executor.submit(self._compute, compute, self.threads if alone else self.threads_of_step)

    @property
    def threads_of_step(self) -> int:
        """Threads of a step when all run."""
        return max(1, self.threads // self.size)

    def collect(self) -> list[T]:
        """Return the results that are there."""
        try:
            os.eventfd_read(self.wake)
        except BlockingIOError:
            return []
        results = []
        while not self._done.empty():
            results.append(self._done.get())
        self.running -= len(results)
        return results

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown()
        os.close(self.wake)

    def _compute(self, compute: Callable[[], T], threads: int) -> None:
        # Torch keeps the number for each thread that calls it.
        torch.set_num_threads(threads)
        self._done.put(compute())
        os.eventfd_write(self.wake, 1)


class StepsHere(StepPool[T]):
    """One step at a time, in the thread that starts it: ranks that compute together talk in one thread."""

    def start(self, compute: Callable[[], T], *, alone: bool) -> None:
        """Compute a step."""
        self.running += 1
        self._compute(compute, self.threads)
