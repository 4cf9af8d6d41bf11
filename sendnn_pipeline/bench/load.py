"""Sends the requests of a workload and notes when each was answered. No torch."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

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


type_send = Callable[[Request], Awaitable[tuple[float | None, float | None]]]


async def drive(send: type_send, requests: Sequence[Request], concurrency: int, open_loop: bool) -> list[Sample]:
    """Send all requests.

    Args:
        send: sends one and returns its queue and compute seconds, where they are known.
        requests: in the order in which they are due.
        concurrency: clients of a closed loop.
        open_loop: send each when it is due, however many are under way.
    """
    began = time.monotonic()

    async def one(request: Request, due: float) -> Sample:
        queued = compute = None
        error = ""
        try:
            queued, compute = await send(request)
        except Exception as problem:
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        return Sample(due, [time.monotonic()], len(request.items), request.num_tokens, queued, compute, error)

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


def drive_http(url: str, model: str, requests: Sequence[Request], concurrency: int, open_loop: bool) -> list[Sample]:
    """Send all requests to an OpenAI-compatible server; runs in a process of its own."""
    import httpx

    async def run() -> list[Sample]:
        limits = httpx.Limits(max_connections=None if open_loop else concurrency)
        async with httpx.AsyncClient(timeout=600, limits=limits) as session:

            async def send(request: Request) -> tuple[None, None]:
                body = {"model": model, "input": [list(ids) for ids in request.items], "encoding_format": "base64"}
                answer = await session.post(f"{url}/v1/embeddings", json=body)
                answer.raise_for_status()
                return None, None

            return await drive(send, requests, concurrency, open_loop)

    return asyncio.run(run())
