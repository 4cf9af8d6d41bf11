"""The ranks that run one engine together, as each of them sees it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sendnn_pipeline.distributed.channel import BEAT_SECONDS, Channel, meetings
from sendnn_pipeline.distributed.rendezvous import Rendezvous

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Where a rank stands among all; a world of one waits for nobody."""

    rank: int = 0
    size: int = 1
    channel: Channel | None = None
    """To the others."""
    rendezvous: Rendezvous | None = None
    """Where an engine whose tensors meet forms its group."""
    local_rank: int = 0
    """Among those on this machine."""

    @contextmanager
    def stagger(self, limit: int) -> Iterator[None]:
        """Let at most ``limit`` ranks into the block at once; 0 lets all in, and all leave together.

        A rank that fails in the block keeps nobody waiting: it counts as having come to every meeting that is left.
        """
        before, after = meetings(self.rank, self.size, limit)
        for _ in before:
            self.meet()
        try:
            yield
        except BaseException:
            if self.channel is not None:
                for _ in after:
                    self.channel.arrive()
            raise
        for _ in after:
            self.meet()

    def meet(self) -> None:
        """Wait until all ranks are here.

        Raises:
            EngineError: one did not come in time.
        """
        if self.channel is not None:
            self.channel.meet()

    def broadcast(self, plan: T) -> T:
        """Return the plan of rank 0, of plain types, in every rank."""
        if self.channel is None:
            return plan
        if self.rank == 0:
            self.channel.tell(plan)
            return plan
        told: T = self.channel.hear()
        return told

    def follow(self, obey: Callable[[Any], None]) -> None:
        """Do what the first rank tells, until it dismisses this one.

        What fails in all ranks alike has left them in step: the first one decides what follows. A rank that fails
        alone ends, as the others wait for its tensors.
        """
        assert self.channel is not None, "the first of several ranks"
        while True:
            self.channel.beat()
            try:
                command = self.channel.hear(BEAT_SECONDS)
            except TimeoutError:
                continue
            if command is None:
                return
            try:
                obey(command)
            except Exception:
                if not self.channel.failed_together():
                    raise

    def silent_seconds(self) -> list[float]:
        """Return for how long the first rank has heard nothing of each; of rank 0."""
        return [0.0, *(self.channel.silent_seconds() if self.channel is not None else ())]

    def dismiss(self) -> None:
        """Have all others leave."""
        if self.channel is not None:
            self.channel.tell(None)

    def __str__(self) -> str:
        return f"{self.rank} of {self.size}"
