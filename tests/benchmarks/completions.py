"""A client of ``/v1/completions``, the same for every server: streams over HTTP, each chunk with the time it came."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

MODEL = "smollm2"
NO_LIMIT = httpx.Limits(max_connections=None)


@dataclass(frozen=True)
class Ask:
    """A prompt, and how many tokens follow it."""

    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """One stream; times are seconds of ``perf_counter``."""

    sent: float
    arrivals: tuple[float, ...]
    """Of the chunks that bring tokens."""
    text: str
    prompt_tokens: int
    tokens: int

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.arrivals[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between chunks; one brings one token, unless the client is behind."""
        return [after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)]


def body_of(ask: Ask, **more: Any) -> dict[str, Any]:
    """Return a greedy request that ends where it was asked to, not where the model would end."""
    return {
        "model": MODEL,
        "prompt": ask.prompt,
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        **more,
    }


async def stream(session: httpx.AsyncClient, ask: Ask) -> Answer:
    """Send one request and read its stream to the end.

    Raises:
        httpx.HTTPStatusError: it was refused.
        RuntimeError: it failed on the way, or brought another number of tokens.
    """
    body = body_of(ask, stream=True, stream_options={"include_usage": True})
    arrivals, texts, usage = [], [], {"prompt_tokens": 0, "completion_tokens": 0}
    sent = time.perf_counter()
    async with session.stream("POST", "/v1/completions", json=body) as response:
        if response.is_error:
            await response.aread()
            response.raise_for_status()
        async for line in response.aiter_lines():
            now = time.perf_counter()
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise RuntimeError(f"the stream failed: {chunk['error']}")
            usage = chunk.get("usage") or usage
            if chunk["choices"]:
                arrivals.append(now)
                texts.append(chunk["choices"][0]["text"])
    if usage["completion_tokens"] != ask.max_tokens:
        raise RuntimeError(f"{ask.max_tokens} tokens were asked for, and {usage['completion_tokens']} came")
    return Answer(sent, tuple(arrivals), "".join(texts), usage["prompt_tokens"], usage["completion_tokens"])


async def _play(url: str, asks: Sequence[Ask], seconds_between: float) -> list[Answer]:
    async with httpx.AsyncClient(base_url=url, timeout=900, limits=NO_LIMIT) as session:
        under_way = []
        began = time.perf_counter()
        for index, ask in enumerate(asks):
            await asyncio.sleep(max(0.0, began + index * seconds_between - time.perf_counter()))
            under_way.append(asyncio.create_task(stream(session, ask)))
        return await asyncio.gather(*under_way)


def play(url: str, asks: Sequence[Ask], *, rate: float = 0.0) -> list[Answer]:
    """Send all requests, ``rate`` a second, or all at once where it is 0; return their answers in order."""
    return asyncio.run(_play(url, asks, 1 / rate if rate else 0.0))


def complete(url: str, asks: Sequence[Ask], **more: Any) -> list[dict[str, Any]]:
    """Return the first choice of every request, one after the other, without streaming."""
    with httpx.Client(base_url=url, timeout=900) as session:
        answers = [session.post("/v1/completions", json=body_of(ask, **more)).raise_for_status() for ask in asks]
    return [answer.json()["choices"][0] for answer in answers]


def tokens_per_second(answers: Sequence[Answer]) -> float:
    """Return all tokens over the time from the first request to the last chunk."""
    seconds = max(answer.arrivals[-1] for answer in answers) - min(answer.sent for answer in answers)
    return sum(answer.tokens for answer in answers) / seconds
