"""An engine whose processes are started anew when one of them dies."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sendnn_pipeline.distributed.ranks import Ranks
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.messages import Drain, EngineLost, FromEngine, Ready, ToEngine

# Between a death and the next start: doubled each time, up to the last.
FIRST_SECONDS, LAST_SECONDS = 1.0, 60.0
# An engine that worked for so long has shown that it can: deaths before it count no more.
STEADY_SECONDS = 120.0
log = logging.getLogger(__name__)


@dataclass
class RevivedRanks:
    """The engine's processes, those of the first start or of a later one.

    A first start that fails is an error, as one that cannot work never will. So is the death that comes after
    ``max_restarts`` others in a row, and a start for which node 0 did not come: it may have ended for good.

    Args:
        start: starts the processes.
        max_restarts: most starts in a row after engines that died young.
        ranks: the processes of the first start.
    """

    start: Callable[[], Ranks]
    max_restarts: int
    ranks: Ranks
    _draining: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def pid(self) -> int:
        """The process of the first rank."""
        return self.ranks.pid

    def kill(self) -> None:
        """End the processes at once."""
        self.ranks.kill()

    async def send(self, message: ToEngine) -> None:
        """Queue a message; between two starts it is lost, and nobody waits for an answer."""
        if isinstance(message, Drain):
            self._draining.set()
        await self.ranks.send(message)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the processes send, and an ``EngineLost`` before each new start.

        Raises:
            EngineError: the first start failed, or too many died.
        """
        num_restarts, ready_at = 0, None
        while True:
            try:
                async for message in self.ranks.messages():
                    if isinstance(message, Ready):
                        ready_at = time.monotonic()
                    yield message
                return
            except PipelineError as error:
                if ready_at is not None and time.monotonic() - ready_at > STEADY_SECONDS:
                    num_restarts = 0
                never_ready = ready_at is None and not num_restarts
                if never_ready or error.is_final or self._draining.is_set() or num_restarts >= self.max_restarts:
                    raise
                reason = str(error)
            seconds = min(LAST_SECONDS, FIRST_SECONDS * 2**num_restarts)
            num_restarts, ready_at = num_restarts + 1, None
            yield EngineLost(reason, num_restarts, self.max_restarts, seconds)
            log.error("%s; starting it again in %g s (%d of %d)", reason, seconds, num_restarts, self.max_restarts)
            await self.ranks.end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), seconds)
                return
            self.ranks = self.start()


def start_revived(start: Callable[[], Ranks], max_restarts: int) -> RevivedRanks:
    """Start an engine's processes for the first time."""
    return RevivedRanks(start, max_restarts, start())
