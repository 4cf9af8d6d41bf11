"""The engine as the edge sees it: admission, pending requests, progress. No torch."""

import asyncio
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.messages import Cancel, FromEngine, Ready, Refused, StepDone, StepStarted, Stop, Submit, Vectors
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.server.errors import ApiError

# An engine that answers nothing for this long while requests wait counts as stalled.
STALLED_SECONDS = 30.0
STALLED_STEPS = 20


@dataclass
class Pending:
    """One request that the engine has."""

    future: "asyncio.Future[None]"
    num_tokens: int
    submitted: float
    rows: npt.NDArray[np.float32]
    """One for every item."""
    num_done: int = 0
    running: bool = False
    enqueued: float = 0.0
    started: float = math.inf
    finished: float = 0.0
    received: float = 0.0
    padding: int = 0
    programs: set[str] = field(default_factory=set)

    @property
    def num_items(self) -> int:
        """Texts, or pairs of texts."""
        return len(self.rows)


class EngineClient:
    """Sends requests to the engine and hands out what comes back."""

    def __init__(self, rank: Rank, metrics: Metrics, max_queue: int, dimensions: int) -> None:
        self._rank, self._metrics, self._max_queue, self._dimensions = rank, metrics, max_queue, dimensions
        self._ids = itertools.count()
        self._pending: dict[int, Pending] = {}
        self._last_heard = time.monotonic()
        self._num_items = self._num_tokens = self._num_running = 0
        self.ready: Ready | None = None
        self.draining = False
        self.dead: str | None = None

    @property
    def num_requests(self) -> int:
        """Requests that are not answered yet."""
        return len(self._pending)

    def unavailable(self) -> str | None:
        """Return why no work is taken now; None when it is."""
        if self.dead is not None:
            return f"the engine is gone: {self.dead}"
        if self.ready is None:
            return "the model is still loading"
        if self.draining:
            return "the server is shutting down"
        return None

    def stalled_seconds(self) -> float | None:
        """Return for how long the engine has said nothing although requests wait, if that is too long."""
        silent = time.monotonic() - self._last_heard
        slowest = max((step.ms for step in self.ready.steps), default=0.0) / 1000 if self.ready else 0.0
        return silent if self._pending and silent > max(STALLED_SECONDS, STALLED_STEPS * slowest) else None

    def admit(self, num_items: int) -> None:
        """Refuse what cannot be taken now.

        Raises:
            ApiError: 503 while loading, draining or dead; 429 when the queue is full, 400 if it could never fit.
        """
        why = self.unavailable()
        if why is not None:
            self._metrics.rejected("unavailable")
            raise ApiError(503, why, code="server_unavailable", retry_after_seconds=5)
        if num_items > self._max_queue:
            self._metrics.rejected("too_many")
            raise ApiError(
                400,
                f"input has {num_items} texts and the whole queue holds {self._max_queue} (serve.max_queue)",
                param="input",
                code="invalid_value",
            )
        queued = self._num_items
        if queued + num_items > self._max_queue:
            self._metrics.rejected("queue_full")
            raise ApiError(
                429,
                f"{queued} texts wait and {num_items} more would exceed serve.max_queue={self._max_queue}",
                code="server_overloaded",
                retry_after_seconds=self._seconds_of_work(),
            )

    def _seconds_of_work(self) -> int:
        steps = self.ready.steps if self.ready else []
        rates = [step.batch_size * step.length / step.ms * 1000 for step in steps if step.ms > 0]
        return max(1, math.ceil(self._num_tokens / max(rates))) if rates else 1

    async def compute(self, items: list[list[int]], deadline: float, second_at: Sequence[int] = ()) -> Pending:
        """Have the engine compute a row of numbers for each of ``items``.

        Args:
            items: token ids of each text, or pair of texts.
            deadline: monotonic seconds at which the answer is of no more use.
            second_at: where the second text of each pair begins.

        Raises:
            ApiError: refused at the door, 504 past the deadline, 500 when the engine failed on it.
        """
        self.admit(len(items))
        request_id = next(self._ids)
        now = time.monotonic()
        if not self._pending:
            self._last_heard = now
        future = asyncio.get_running_loop().create_future()
        pending = Pending(future, sum(map(len, items)), now, np.empty((len(items), self._dimensions), np.float32))
        self._pending[request_id] = pending
        self._num_items += pending.num_items
        self._num_tokens += pending.num_tokens
        self._gauge()
        await self._rank.port.send(Submit(request_id, items, deadline, list(second_at)))
        try:
            async with asyncio.timeout(max(0.0, deadline - now) + 1.0):
                await future
        except TimeoutError:
            await self._forget(request_id, "deadline")
            raise ApiError(504, "the deadline passed before the answer was there", code="deadline_exceeded") from None
        except asyncio.CancelledError:
            await self._forget(request_id, "client_gone")
            raise
        finally:
            del self._pending[request_id]
            self._num_items -= pending.num_items - pending.num_done
            self._num_tokens -= pending.num_tokens
            self._num_running -= pending.running
            self._gauge()
        return pending

    async def _forget(self, request_id: int, stage: str) -> None:
        self._metrics.cancelled(stage)
        await self._rank.port.send(Cancel(request_id))

    def handle(self, message: FromEngine) -> None:
        """Take one message of the engine."""
        self._last_heard = time.monotonic()
        match message:
            case Ready():
                self.ready = message
            case StepStarted():
                self._run(message.request_ids)
            case StepDone():
                self._metrics.stepped(message, time.time())
            case Vectors():
                self._take(message)
            case Refused():
                self._refuse(message)

    def _run(self, request_ids: list[int]) -> None:
        for request_id in request_ids:
            pending = self._pending.get(request_id)
            if pending is not None and not pending.running:
                pending.running = True
                self._num_running += 1
        self._gauge()

    def _take(self, message: Vectors) -> None:
        pending = self._pending.get(message.request_id)
        if pending is None or pending.future.done():
            return
        rows = np.frombuffer(message.data, dtype="<f4").reshape(-1, message.dimensions)
        pending.rows[message.indices] = rows
        pending.num_done += len(message.indices)
        self._num_items -= len(message.indices)
        pending.enqueued = message.enqueued
        pending.started = min(pending.started, message.started)
        pending.finished = max(pending.finished, message.finished)
        pending.padding += message.padding
        pending.programs.add(message.program)
        if pending.num_done == pending.num_items:
            pending.received = time.monotonic()
            pending.future.set_result(None)

    def _refuse(self, message: Refused) -> None:
        pending = self._pending.get(message.request_id)
        if pending is None or pending.future.done():
            return
        param = f"input[{message.index}]" if message.index >= 0 else None
        if message.reason == "deadline":
            self._metrics.cancelled("deadline")
            error = ApiError(504, message.message, code="deadline_exceeded")
        else:
            error = ApiError(500, message.message, param=param, code="engine_failed")
        pending.future.set_exception(error)

    def die(self, reason: str) -> None:
        """Fail everything that waits: the engine is gone."""
        self.dead = reason
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(
                    ApiError(503, f"the engine is gone: {reason}", code="server_unavailable", retry_after_seconds=5)
                )

    async def drain(self, seconds: float) -> int:
        """Take no new work, wait for what runs, tell the engine to stop, and return how many requests were lost."""
        self.draining = True
        ends = time.monotonic() + seconds
        while self._pending and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        num_lost = len(self._pending)
        if num_lost:
            self.die("the drain time ran out")
        await self._rank.port.send(Stop())
        return num_lost

    def _gauge(self) -> None:
        self._metrics.running.set(self._num_running)
        self._metrics.waiting.set(len(self._pending) - self._num_running)
