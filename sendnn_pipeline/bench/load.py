"""Sends the requests of a workload and notes when each was answered. No torch."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sendnn_pipeline.bench.requests import Request


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

    @property
    def latency_seconds(self) -> float:
        """From due to the last part: in an open loop, waiting for one's turn is not left out."""
        return self.answers[-1] - self.due


@dataclass(frozen=True)
class Sent:
    """What is known of an answer beside its time."""

    num_tokens: int
    """Real tokens that were computed."""
    queued_seconds: float | None = None
    compute_seconds: float | None = None


type_send = Callable[[Request], Awaitable[Sent]]


async def drive(send: type_send, requests: Sequence[Request], concurrency: int, open_loop: bool) -> list[Sample]:
    """Send all requests.

    Args:
        send: sends one and returns what is known of its answer.
        requests: in the order in which they are due.
        concurrency: clients of a closed loop.
        open_loop: send each when it is due, however many are under way.
    """
    began = time.monotonic()

    async def one(request: Request, due: float) -> Sample:
        sent, error = Sent(0), ""
        try:
            sent = await send(request)
        except Exception as problem:
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        known = (sent.num_tokens, sent.queued_seconds, sent.compute_seconds)
        return Sample(due, [time.monotonic()], len(request.items), *known, error)

    if open_loop:
        tasks = []
        for request in requests:
            await asyncio.sleep(max(0.0, began + request.at - time.monotonic()))
            tasks.append(asyncio.create_task(one(request, began + request.at)))
        return list(await asyncio.gather(*tasks))
    left, samples = deque(requests), []

    async def client() -> None:
        while left:
            samples.append(await one(left.popleft(), time.monotonic()))

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return samples


def drive_http(
    url: str, bodies: Sequence[Mapping[str, Any]], requests: Sequence[Request], concurrency: int, open_loop: bool
) -> list[Sample]:
    """Send the body of each request to a route; runs in a process of its own."""
    import httpx

    async def run() -> list[Sample]:
        limits = httpx.Limits(max_connections=None if open_loop else concurrency)
        async with httpx.AsyncClient(timeout=600, limits=limits) as session:
            body_of = dict(zip(requests, bodies, strict=True))

            async def send(request: Request) -> Sent:
                answer = await session.post(url, json=body_of[request])
                answer.raise_for_status()
                return Sent(int(answer.json()["usage"]["prompt_tokens"]))

            return await drive(send, requests, concurrency, open_loop)

    return asyncio.run(run())
