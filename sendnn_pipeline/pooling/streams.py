"""Several steps at once: each in a thread of its own, on its share of the processor's threads."""

import os
import queue
import select
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import torch

from sendnn_pipeline.pooling.batcher import Batch
from sendnn_pipeline.pooling.engine import Outcome, PoolingEngine


@dataclass
class Streams:
    """Keeps up to ``count`` steps of an engine running. All but the computing happens in the caller's thread.

    One thread a step is faster than two that meet after every kernel; a step that runs alone gets them all.
    """

    engine: PoolingEngine
    count: int
    threads: int
    """Of all streams together."""
    running: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        self._done: queue.SimpleQueue[tuple[Batch, Outcome]] = queue.SimpleQueue()
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="stream")
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        os.close(self.event)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.running and not self.engine.waiting

    @property
    def can_start(self) -> bool:
        """Whether ``fill`` would start a step."""
        return self.running < self.count and self.engine.waiting > 0

    def fill(self) -> None:
        """Start steps until every stream is busy or nothing waits."""
        while self.can_start:
            batch = self.engine.begin()
            if batch is None:
                break
            self.running += 1
            alone = self.running == 1 and not self.engine.waiting
            self._pool.submit(self._compute, batch, self.threads if alone else max(1, self.threads // self.count))

    def collect(self) -> None:
        """Account and answer what is done."""
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return
        while not self._done.empty():
            self.running -= 1
            self.engine.finish(*self._done.get())

    def wait(self) -> None:
        """Wait until a step is done; for callers without a port to watch."""
        select.select([self.event], [], [])

    def _compute(self, batch: Batch, threads: int) -> None:
        # Torch keeps the number for each thread that calls it.
        torch.set_num_threads(threads)
        self._done.put((batch, self.engine.compute(batch)))
        os.eventfd_write(self.event, 1)
