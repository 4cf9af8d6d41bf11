"""The engine as the edge sees it: admission, calls, progress. No torch."""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from sendnn_pipeline.frontend.call import Call, Work, error_of
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.heard import STALLED_SECONDS, Heard
from sendnn_pipeline.messages import (
    Alive,
    Cancel,
    Drain,
    EngineLost,
    FromEngine,
    Measured,
    Part,
    Ready,
    Request,
    RequestFailed,
    StepDone,
    StepStarted,
    ToEngine,
)
from sendnn_pipeline.observe import logs
from sendnn_pipeline.observe.metrics import Metrics

# What the edge waits past a deadline for the engine's own word on it.
DEADLINE_GRACE_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5


class SendPort(Protocol):
    """The way to the engine."""

    async def send(self, message: ToEngine) -> None:
        """Queue a message."""


class EngineClient:
    """Sends requests to the engine and hands out what comes back.

    Args:
        port: the way to the engine.
        metrics: of the run.
        max_queue: most items that wait.
        unit: what an item is, in the plural, for messages.
        stall_seconds: without a word of the engine, after which it counts as stalled.
    """

    def __init__(
        self, port: SendPort, metrics: Metrics, max_queue: int, unit: str, *, stall_seconds: float = STALLED_SECONDS
    ) -> None:
        self._heard = Heard(stall_seconds)
        self._port, self._metrics, self._max_queue, self._unit = port, metrics, max_queue, unit
        self._ids = itertools.count()
        self._calls: dict[int, Call] = {}
        self._warm = asyncio.Event()
        self.ready: Ready | None = None
        self.draining = False
        self.dead: str | None = None
        self.lost: EngineLost | None = None  # while the engine is started again
        metrics.watch_requests(lambda: self.num_running, lambda: self.num_requests - self.num_running)

    @property
    def num_requests(self) -> int:
        """Requests that are not answered yet."""
        return len(self._calls)

    @property
    def num_running(self) -> int:
        """Requests of which a step has begun."""
        return sum(call.running for call in self._calls.values())

    @property
    def num_items(self) -> int:
        """Items that are not answered yet."""
        return sum(call.work.num_items - call.num_done for call in self._calls.values())

    async def wait_ready(self) -> None:
        """Wait until the engine is warm; one that never is ends whoever runs it: see ``Session.engine``."""
        await self._warm.wait()

    def unavailable(self) -> str | None:
        """Return why no work is taken now; None when it is."""
        if self.dead is not None:
            return f"the engine is gone: {self.dead}"
        if (lost := self.lost) is not None:
            return f"the engine is started again ({lost.attempt} of {lost.max_attempts}) after {lost.reason}"
        if self.ready is None:
            return "the model is still loading"
        return "the server is shutting down" if self.draining else None

    def stalled(self) -> str | None:
        """Return who of the engine has been silent for too long; None where nobody has."""
        slowest_ms = max((step.ms for step in self.ready.steps), default=0.0) if self.ready else 0.0
        return self._heard.stalled(waiting=bool(self._calls), slowest_ms=slowest_ms)

    def admit(self, num_items: int, param: str = "input") -> None:
        """Refuse what cannot be taken now.

        Args:
            num_items: that are asked for.
            param: the field that asks for so many.

        Raises:
            RequestError: 503 while loading, draining or dead; 429 when the queue is full, 400 if it could never fit.
        """
        why, unit = self.unavailable(), self._unit
        if why is not None:
            self._metrics.rejected("unavailable")
            raise RequestError(503, why, code="server_unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)
        if num_items > self._max_queue:
            self._metrics.rejected("too_many")
            raise RequestError(
                400,
                f"{param} asks for {num_items} {unit}, and the whole queue holds {self._max_queue} (serve.max_queue)",
                param=param,
                code="invalid_value",
            )
        queued = self.num_items
        if queued + num_items > self._max_queue:
            self._metrics.rejected("queue_full")
            raise RequestError(
                429,
                f"{queued} {unit} have no answer yet and {num_items} more would exceed "
                f"serve.max_queue={self._max_queue}",
                code="server_overloaded",
                retry_after_seconds=self._seconds_of_work(),
            )

    def _seconds_of_work(self) -> int:
        steps = self.ready.steps if self.ready else []
        rates = [step.num_tokens / step.ms * 1000 for step in steps if step.ms > 0]
        num_tokens = sum(call.work.num_tokens for call in self._calls.values())
        return max(1, math.ceil(num_tokens / max(rates))) if rates else 1

    @asynccontextmanager
    async def open(self, payload: msgspec.Struct, work: Work, deadline: float) -> AsyncIterator[Call]:
        """Have the engine work on a request while the block runs; leaving it early cancels the request.

        Args:
            payload: the engine's own struct.
            work: how much it asks for.
            deadline: monotonic seconds at which the answer is of no more use.

        Raises:
            RequestError: refused at the door, 504 past the deadline, 500 when the engine failed on it.
        """
        self.admit(work.num_items, work.param)
        if not self._calls:
            self._heard.begin_waiting()
        call = Call(next(self._ids), work, payload)
        self._calls[call.request_id] = call
        expiry: asyncio.TimerHandle | None = None
        if not math.isinf(deadline):
            left = max(0.0, deadline - call.submitted) + DEADLINE_GRACE_SECONDS
            expiry = asyncio.get_running_loop().call_later(left, self._expire, call)
        try:
            raw = msgspec.Raw(msgspec.msgpack.encode(payload))
            await self._port.send(Request(call.request_id, deadline, raw, logs.request_id.get()))
            yield call
        except asyncio.CancelledError:
            self._metrics.cancelled("client_gone")
            raise
        finally:
            if expiry is not None:
                expiry.cancel()
            del self._calls[call.request_id]
            if not call.ended or call.expired:
                await self._port.send(Cancel(call.request_id))

    async def stop(self, call: Call, item: int) -> None:
        """Have the engine forget one item of a request: what there is of its answer is all that is asked for."""
        await self._port.send(Cancel(call.request_id, item))

    def _expire(self, call: Call) -> None:
        if not call.ended:
            call.expired = True
            self._metrics.cancelled("deadline")
            call.fail(RequestError(504, "the deadline passed before the answer was there", code="deadline_exceeded"))

    def handle(self, message: FromEngine) -> None:
        """Take one message of the engine."""
        self._heard.hear(message)
        match message:
            case Ready():
                self.ready, self.lost = message, None
                self._warm.set()
            case Alive():
                pass
            case Measured():
                self._metrics.measures.take(message.measures)
            case EngineLost():
                self._lose(message)
            case StepStarted():
                for request_id in self._calls.keys() & message.request_ids:
                    self._calls[request_id].running = True
            case StepDone():
                self._metrics.stepped(message, time.time())
            case Part():
                if message.request_id in self._calls:
                    self._calls[message.request_id].put(message)
            case RequestFailed():
                self._fail(message)
            case _:
                raise AssertionError(f"nobody takes {type(message).__name__}")

    def _fail(self, message: RequestFailed) -> None:
        if (call := self._calls.get(message.request_id)) is not None:
            if message.reason == "deadline":
                self._metrics.cancelled("deadline")
            call.fail(error_of(message, call.work))

    def die(self, reason: str) -> None:
        """Fail everything that waits: the engine is gone. The first reason stays."""
        if self.dead is not None:
            return
        self.dead = reason
        self._fail_all(f"the engine is gone: {reason}")

    def _lose(self, lost: EngineLost) -> None:
        """Fail everything that waits, and take nothing until the engine is warm again."""
        self.ready, self.lost = None, lost
        self._heard.begin()
        self._warm.clear()
        self._fail_all(f"the engine is gone, and started again: {lost.reason}")

    def _fail_all(self, message: str) -> None:
        for call in self._calls.values():
            error = RequestError(503, message, code="server_unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)
            call.fail(error)

    async def drain(self, seconds: float) -> int:
        """Take no new work, wait for what runs, tell the engine to stop, and return how many requests were lost."""
        self.draining = True
        ends = time.monotonic() + seconds
        while self._calls and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        num_lost = len(self._calls)
        if num_lost:
            self.die("the drain time ran out")
        await self._port.send(Drain())
        return num_lost
