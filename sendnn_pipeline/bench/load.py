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
    """When each part of the answer came: one for vectors, about one a token for text."""
    num_items: int
    num_tokens: int
    queued_seconds: float | None = None
    compute_seconds: float | None = None
    error: str = ""
    num_cut: int = 0
    """Items that the workload has longer than any Program takes."""
    choices: list[int] = []
    """To which of several texts each part belongs; empty where the answer came whole."""
    num_output_tokens: int = 0

    @property
    def streams(self) -> list[list[float]]:
        """When the parts of each text came; empty where the answer came whole."""
        found: dict[int, list[float]] = {}
        for choice, answered in zip(self.choices, self.answers, strict=False):
            found.setdefault(choice, []).append(answered)
        return list(found.values())

    @property
    def first_seconds(self) -> list[float]:
        """From due to the first part of each text, or to the whole answer."""
        return [times[0] - self.due for times in self.streams] or [self.latency_seconds]

    @property
    def token_seconds(self) -> list[float]:
        """Of each text, what a token after the first took; empty where there are none."""
        streams = self.streams
        after = self.num_output_tokens / len(streams) - 1 if streams else 0
        return [(times[-1] - times[0]) / after for times in streams] if after > 0 else []

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


@dataclass
class Parts:
    """The parts of an answer that streams."""

    times: list[float] = field(default_factory=list)
    """When they came; empty where it came whole."""
    choices: list[int] = field(default_factory=list)
    """To which text each belongs."""
    num_tokens: int = 0
    """Of the prompts, as the usage says, which comes last."""
    num_output_tokens: int = 0

    def take(self, event: Any) -> None:
        """Note an event as it comes: a part of the answer, or its usage, which comes last."""
        known = event if isinstance(event, Mapping) else {}
        choices, usage = known.get("choices"), known.get("usage")
        if choices or not usage:
            self.times.append(time.monotonic())
            self.choices.append(choices[0].get("index", 0) if choices else 0)
        if usage:
            self.num_tokens, self.num_output_tokens = usage["prompt_tokens"], usage.get("completion_tokens", 0)


@dataclass(frozen=True)
class Received:
    """What is known of an answer."""

    num_tokens: int
    """Real tokens that were computed."""
    queued_seconds: float | None = None
    compute_seconds: float | None = None
    parts: Parts = field(default_factory=Parts)


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
        parts = received.parts
        times = parts.times or [time.monotonic()]
        known = (received.num_tokens, received.queued_seconds, received.compute_seconds)
        return Sample(due, times, ask.num_items, *known, error, ask.num_cut, parts.choices, parts.num_output_tokens)

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


async def _stream(session: Any, url: str, ask: Ask) -> Received:
    parts = Parts()
    async with session.stream("POST", url, json=ask.body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = msgspec.json.decode(line.removeprefix("data: "))
            if "error" in event:
                raise ServeError(f"the stream broke off: {event['error']['message']}")
            parts.take(event)
    return Received(parts.num_tokens, parts=parts)
