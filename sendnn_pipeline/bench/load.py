"""Sends the requests of a workload and notes when each part of an answer came. No torch."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sendnn_pipeline.errors import ServeError


class Sample(msgspec.Struct, frozen=True):
    """One request as its client saw it. Seconds of the monotonic clock."""

    due: float
    """When it was to be sent; in a closed loop, when a client was free for it."""
    answers: list[float]
    """When each part of the answer came: one for vectors, one a token for text."""
    num_items: int
    num_tokens: int
    queued_seconds: float | None = None
    compute_seconds: float | None = None
    error: str = ""
    num_cut: int = 0
    """Items that the workload has longer than any Program takes."""

    @property
    def latency_seconds(self) -> float:
        """From due to the last part: in an open loop, waiting for one's turn is not left out."""
        return self.answers[-1] - self.due


@dataclass(frozen=True)
class Ask:
    """One request."""

    body: Mapping[str, Any]
    num_items: int
    at: float
    """Seconds after the start at which it is due."""
    num_cut: int = 0
    """Items that the workload has longer."""


@dataclass(frozen=True)
class Received:
    """What is known of an answer."""

    num_tokens: int
    """Real tokens that were computed."""
    queued_seconds: float | None = None
    compute_seconds: float | None = None
    times: list[float] = field(default_factory=list)
    """When its parts came; empty where it came whole."""


Send = Callable[[Ask], Awaitable[Received]]


async def drive(send: Send, asks: Sequence[Ask], concurrency: int, open_loop: bool) -> list[Sample]:
    """Send all requests.

    Args:
        send: sends one and returns what is known of its answer.
        asks: in the order in which they are due.
        concurrency: clients of a closed loop.
        open_loop: send each when it is due, however many are under way.
    """
    began = time.monotonic()

    async def one(ask: Ask, due: float) -> Sample:
        received, error = Received(0), ""
        try:
            received = await send(ask)
        except Exception as problem:
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        times = received.times or [time.monotonic()]
        known = (received.num_tokens, received.queued_seconds, received.compute_seconds)
        return Sample(due, times, ask.num_items, *known, error, ask.num_cut)

    if open_loop:
        tasks = []
        for ask in asks:
            await asyncio.sleep(max(0.0, began + ask.at - time.monotonic()))
            tasks.append(asyncio.create_task(one(ask, began + ask.at)))
        return list(await asyncio.gather(*tasks))
    left, samples = deque(asks), []

    async def client() -> None:
        while left:
            samples.append(await one(left.popleft(), time.monotonic()))

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return samples


def drive_http(url: str, asks: Sequence[Ask], concurrency: int, open_loop: bool) -> list[Sample]:
    """Send the body of each request to a route; runs in a process of its own."""
    import httpx

    async def run() -> list[Sample]:
        limits = httpx.Limits(max_connections=None if open_loop else concurrency)
        async with httpx.AsyncClient(timeout=600, limits=limits) as session:

            async def send(ask: Ask) -> Received:
                if ask.body.get("stream"):
                    return await _stream(session, url, ask)
                answer = await session.post(url, json=ask.body)
                answer.raise_for_status()
                return Received(int(answer.json()["usage"]["prompt_tokens"]))

            return await drive(send, asks, concurrency, open_loop)

    return asyncio.run(run())


def is_part(event: Any) -> bool:
    """Return whether an event of a stream is a part of the answer, rather than its usage, which comes last."""
    return not (isinstance(event, Mapping) and event.get("usage") and not event.get("choices"))


async def _stream(session: Any, url: str, ask: Ask) -> Received:
    times: list[float] = []
    num_tokens = 0
    async with session.stream("POST", url, json=ask.body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = msgspec.json.decode(line.removeprefix("data: "))
            if "error" in event:
                raise ServeError(f"the stream broke off: {event['error']['message']}")
            if is_part(event):
                times.append(time.monotonic())
            num_tokens = (event.get("usage") or {}).get("prompt_tokens", num_tokens)
    return Received(num_tokens, times=times)
