"""One request that the engine has, and the parts of its answer as they come."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.messages import Part, RequestFailed


def _input(index: int) -> str:
    return f"input[{index}]"


@dataclass(frozen=True)
class Work:
    """How much a request asks for: what the queue counts, and real tokens."""

    num_items: int
    num_tokens: int
    param: str = "input"
    """The field that asks for so many items."""
    name_of: Callable[[int], str] = _input
    """Names an input by its index, as the client knows it."""


def error_of(message: RequestFailed, work: Work) -> RequestError:
    """Return how a client is told why the engine gives no answer."""
    if message.reason == "deadline":
        return RequestError(504, message.message, code="deadline_exceeded")
    param = work.name_of(message.item) if message.item >= 0 else None
    text = f"{param} {message.message}" if param else message.message
    if message.reason == "refused":
        return RequestError(400, text, param=param, code="invalid_value")
    return RequestError(500, text, param=param, code="engine_failed", detail=message.detail)


@dataclass
class Call:
    """Iterate it for the payloads of the parts. Times are seconds of the monotonic clock."""

    request_id: int
    work: Work
    payload: msgspec.Struct
    """What the engine was sent."""
    submitted: float = field(default_factory=time.monotonic)
    running: bool = False
    """Whether a step with some of it has begun."""
    enqueued: float = 0.0
    started: float = math.inf
    finished: float = 0.0
    received: float = 0.0
    """When the last part came."""
    padding_tokens: int = 0
    programs: set[str] = field(default_factory=set)
    num_done: int = 0
    """Items that are answered."""
    report: dict[str, Any] = field(default_factory=dict)
    """Fields of the performance log that the engine's own routes know; they come before the usual ones."""
    measured: dict[str, list[float]] = field(default_factory=dict)
    """Observations of the plan's histograms."""
    finish_reason: str = "stop"
    ended: bool = False
    """Whether no more comes: the last part did, or an error."""
    expired: bool = False
    """Whether the engine was silent past the deadline."""
    _parts: deque[msgspec.Raw] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _error: RequestError | None = None

    def put(self, part: Part) -> None:
        """Take a part from the engine."""
        self.enqueued = part.enqueued
        self.started, self.finished = min(self.started, part.started), max(self.finished, part.finished)
        self.padding_tokens += part.padding_tokens
        self.programs.add(part.program)
        self.num_done += part.num_items
        self.received, self.ended = time.monotonic(), part.last
        self._parts.append(part.payload)
        self._news.set()

    def fail(self, error: RequestError) -> None:
        """End with an error."""
        self._error, self.ended = error, True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> msgspec.Raw:
        """Return the next payload.

        Raises:
            RequestError: the engine failed on the request, or its deadline passed.
        """
        while True:
            if self._parts:
                return self._parts.popleft()
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
