"""The rounds of a bench: the same requests, again and again, to the engine or through a server."""

import asyncio
import contextlib
import math
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from sendnn_pipeline.bench.config import BenchConfig
from sendnn_pipeline.bench.load import Ask, Parts, Received, Sample, drive, drive_http
from sendnn_pipeline.bench.pictures import draw_images
from sendnn_pipeline.bench.requests import draw_requests, make_items, prose
from sendnn_pipeline.bench.route import Route
from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.frontend.tokenizer import TextTokenizer
from sendnn_pipeline.messages import StepDone
from sendnn_pipeline.server.http import edge

Round = tuple[list[Sample], list[StepDone]]


async def make_asks(session: Session, tokenizer: TextTokenizer, route: Route) -> Callable[[int], list[Ask]]:
    """Draw the requests, and return what makes those of a round."""
    run, bench = session.run, route.endpoint.bench
    assert bench is not None
    workload, max_tokens = run.config.workload, run.plan.max_input_tokens
    (corpus,) = await tokenizer.encode([prose()], None, special=False)
    draws = draw_requests(workload, max_tokens, len(corpus), tokenizer.num_special)
    num_cut = sum(draw.num_cut for draw in draws)
    if num_cut:
        num_texts = sum(len(draw.spans) for draw in draws)
        session.say(
            f"note: {num_cut} of {num_texts} texts are cut to {max_tokens} tokens, as much as the longest Program "
            "takes: this is less work than the workload's"
        )
    items = await make_items(draws, corpus, tokenizer)

    def of_round(number: int) -> list[Ask]:
        fresh = (replace(item, round=number, images=draw_images(workload, number, at)) for at, item in enumerate(items))
        return [
            Ask(bench.body(run, item), len(draw.spans), draw.at, draw.num_cut)
            for item, draw in zip(fresh, draws, strict=True)
        ]

    return of_round


async def run_rounds(
    session: Session, client: EngineClient, tokenizer: TextTokenizer, route: Route, steps: list[StepDone]
) -> list[Round]:
    """Wait for the engine, then send everything once to warm up and ``serve.rounds`` times to count.

    Args:
        session: of the run.
        client: of its engine.
        tokenizer: of its model.
        route: where requests go.
        steps: takes the engine's steps as they happen.
    """
    options, workload = session.run.config.serve, session.run.config.workload
    assert isinstance(options, BenchConfig)
    asks_of = await make_asks(session, tokenizer, route)
    await client.wait_ready()
    session.say(f"ready in {time.monotonic() - session.started:.1f} s")
    rounds: list[Round] = []
    open_loop = workload.rate is not None
    async with _way(session, client, tokenizer, route) as way:
        # The first round warms up what no Program does: connections, allocators, this loop.
        for number in range(options.rounds + 1):
            asks = asks_of(number)
            steps.clear()
            samples = await way.run(asks, workload.concurrency, open_loop)
            if number:
                rounds.append((samples, list(steps)))
                session.say(f"round {number} of {options.rounds}: {_seconds(samples):.2f} s")
    return rounds


@dataclass(frozen=True)
class _Direct:
    """Straight to the engine."""

    front: Frontend
    endpoint: Endpoint[Any]

    async def run(self, asks: Sequence[Ask], concurrency: int, open_loop: bool) -> list[Sample]:
        return await drive(self._send, asks, concurrency, open_loop)

    async def _send(self, ask: Ask) -> Received:
        body = msgspec.convert(ask.body, self.endpoint.body)
        parts = Parts()
        async with self.front.ask(self.endpoint, body, math.inf) as call:
            if self.endpoint.streams(body):
                assert self.endpoint.stream is not None
                async for event in self.endpoint.stream(self.front, body, call):
                    parts.take(event)
            else:
                await self.endpoint.render(self.front, body, call)
        queued, computed = call.started - call.enqueued, call.finished - call.started
        return Received(call.work.num_tokens, queued, computed, parts)


@dataclass(frozen=True)
class _Http:
    """Through a server, from clients in a process of their own."""

    url: str
    clients: ProcessPoolExecutor

    async def run(self, asks: Sequence[Ask], concurrency: int, open_loop: bool) -> list[Sample]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.clients, drive_http, self.url, asks, concurrency, open_loop)


@contextlib.asynccontextmanager
async def _way(
    session: Session, client: EngineClient, tokenizer: TextTokenizer, route: Route
) -> AsyncIterator[_Direct | _Http]:
    options = session.run.config.serve
    assert isinstance(options, BenchConfig)
    if options.transport == "engine":
        yield _Direct(Frontend(session.run, client, tokenizer), route.endpoint)
        return
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{route.path}"
    async with edge(session, client, tokenizer, listening):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as clients:
            yield _Http(url, clients)


def _seconds(samples: Sequence[Sample]) -> float:
    return max(sample.answers[-1] for sample in samples) - min(sample.due for sample in samples)
