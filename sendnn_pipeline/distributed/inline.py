"""An engine in a thread of this process: the job of a rank, at a port of queues."""

import asyncio
import logging
import os
import queue
import select
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError, PipelineError
from sendnn_pipeline.messages import Drain, FromEngine, ToEngine

JOIN_SECONDS = 30.0
log = logging.getLogger(__name__)


class InlinePort:
    """The engine's end."""

    def __init__(self, deliver: Callable[[FromEngine], None]) -> None:
        self._deliver = deliver
        self._inbox: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def send(self, message: FromEngine) -> None:
        """Hand a message to the edge's event loop."""
        self._deliver(message)

    def put(self, message: ToEngine) -> None:
        """Queue a message for the engine; from any thread."""
        self._inbox.put(message)
        os.eventfd_write(self._news, 1)

    def receive(self, timeout_seconds: float, wake: int) -> list[ToEngine]:
        """Return every message that is there, waiting up to ``timeout_seconds`` for the first, or for ``wake``."""
        readable, _, _ = select.select([self._news, wake], [], [], timeout_seconds)
        if self._news in readable:
            os.eventfd_read(self._news)
        messages = []
        while not self._inbox.empty():
            messages.append(self._inbox.get())
        return messages

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._news)


@dataclass
class InlineEngine:
    """A started engine; its messages come on the event loop that started it."""

    port: InlinePort
    thread: threading.Thread
    messages_or_end: "asyncio.Queue[FromEngine | BaseException | None]"

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    async def send(self, message: ToEngine) -> None:
        """Queue a message."""
        self.port.put(message)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the engine sends, until its thread ends.

        Raises:
            EngineError: it failed.
        """
        while (message := await self.messages_or_end.get()) is not None:
            if isinstance(message, PipelineError):
                raise message
            if isinstance(message, BaseException):
                raise EngineError(f"the engine failed: {type(message).__name__}: {message}") from message
            yield message

    def kill(self) -> None:
        """Have it end; a thread cannot be ended from outside, so what runs is computed."""
        self.port.put(Drain())
        self.thread.join(JOIN_SECONDS)
        if not self.thread.is_alive():
            self.port.close()


def start_inline(job: "Callable[[InlinePort, Run, World], None]", run: Run) -> InlineEngine:
    """Start the engine of a run; called on the event loop that takes its messages."""
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[FromEngine | BaseException | None] = asyncio.Queue()

    def deliver(message: FromEngine | BaseException | None) -> None:
        loop.call_soon_threadsafe(received.put_nowait, message)

    port = InlinePort(deliver)

    def work() -> None:
        try:
            job(port, run, World())
        except BaseException as error:
            if not isinstance(error, PipelineError):
                log.exception("the engine failed")
            deliver(error)
        else:
            deliver(None)

    thread = threading.Thread(target=work, name="sendnn-rank-0", daemon=True)
    thread.start()
    return InlineEngine(port, thread, received)
