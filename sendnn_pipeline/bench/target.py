"""The serve target ``bench``: the engine under a named workload, in rounds."""

import asyncio
import contextlib
import json
import math
import multiprocessing
import socket
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from sendnn_pipeline.bench.config import BenchConfig
from sendnn_pipeline.bench.load import Sample, Sent, drive, drive_http
from sendnn_pipeline.bench.plot import plot_bench
from sendnn_pipeline.bench.report import print_figures, summarise
from sendnn_pipeline.bench.requests import Request, make_requests, prose, reranks
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.distributed.target import Session
from sendnn_pipeline.errors import ConfigError, ServeError
from sendnn_pipeline.messages import Ready, StepDone
from sendnn_pipeline.programs.price import cold_compile_seconds
from sendnn_pipeline.programs.program import plan_pooling
from sendnn_pipeline.server.cut import Cut
from sendnn_pipeline.server.engine_client import EngineClient
from sendnn_pipeline.server.http import edge
from sendnn_pipeline.server.scoring import Pairs, items_of
from sendnn_pipeline.server.tokenizer import TextTokenizer, load_tokenizer

TRANSPORTS = ("engine", "http")


@dataclass
class BenchTarget:
    """Runs the workload, prints figures, and keeps them with a plot."""

    ends = True
    folder: Path | None = field(default=None, init=False)
    tokenizer: TextTokenizer | None = field(default=None, init=False)

    def claim(self, run: Run) -> None:
        """Make the folder of results and read the tokenizer before weights are loaded."""
        options = run.config.serve
        assert isinstance(options, BenchConfig)
        if options.transport not in TRANSPORTS:
            raise ConfigError(f"serve.transport={options.transport} is none", hint=f"use {' or '.join(TRANSPORTS)}")
        if options.rounds < 1:
            raise ConfigError(f"serve.rounds={options.rounds} must be 1 or more")
        if run.config.workload.task == "rerank" and run.classifies and len(run.model.labels) != 1:
            raise ConfigError(
                f"workload.task=rerank, and {run.served_name} gives {len(run.model.labels)} labels, not one score",
                hint="use workload.task=texts",
            )
        self.tokenizer = load_tokenizer(run.model.folder)
        try:
            if options.output is None:
                self.folder = Path(tempfile.mkdtemp(prefix="sendnn_pipeline-bench-"))
            else:
                self.folder = Path(options.output).expanduser().absolute()
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"serve.output={options.output} cannot be written: {error.strerror}") from None

    def run(self, session: Session) -> None:
        """Start the engine, run all rounds, and say where the figures are."""
        assert self.folder is not None and self.tokenizer is not None
        try:
            with new_address() as address:
                rounds = asyncio.run(_follow(session, session.start_rank(address), self.tokenizer))
        finally:
            self.tokenizer.close()
        _keep(session, rounds, self.folder)


type_rounds = list[tuple[list[Sample], list[StepDone]]]


async def _follow(session: Session, rank: Rank, tokenizer: TextTokenizer) -> type_rounds:
    engine = EngineClient(rank, session.metrics, 2**31, session.run.dimensions)
    steps: list[StepDone] = []
    ready = asyncio.Event()

    async def listen() -> None:
        async for message in session.follow(rank):
            engine.handle(message)
            if isinstance(message, StepDone):
                steps.append(message)
            elif isinstance(message, Ready):
                ready.set()

    listening = asyncio.create_task(listen())
    running = asyncio.create_task(_rounds(session, engine, tokenizer, steps, ready))
    try:
        await asyncio.wait({listening, running}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            listening.result()
            raise ServeError("the engine ended before the bench did")
        return running.result()
    finally:
        rank.kill()
        for task in (running, listening):
            task.cancel()
        await asyncio.gather(running, listening, return_exceptions=True)


async def _rounds(
    session: Session, engine: EngineClient, tokenizer: TextTokenizer, steps: list[StepDone], ready: asyncio.Event
) -> type_rounds:
    run = session.run
    options, workload = run.config.serve, run.config.workload
    assert isinstance(options, BenchConfig)
    (corpus,) = await tokenizer.encode([prose()], None, special=False)
    (bare,) = await tokenizer.encode([""], None)
    around = (bare[: (len(bare) + 1) // 2], bare[(len(bare) + 1) // 2 :])
    longest = max(shape.prompt_len for shape in run.shapes)
    if longest < workload.most:
        session.say(f"note: texts are cut to {longest} tokens, as much as the longest Program takes")
    rerank = reranks(workload, run.model.labels if run.classifies else ())
    requests = make_requests(workload, longest, corpus, around, rerank=rerank)
    # Documents are texts on their way, so that they are tokenized as a client's are.
    rankings = [await _ranking(tokenizer, request) for request in requests] if rerank else []
    prepared = dict(zip(requests, rankings, strict=False))
    cut = Cut(whole=longest)
    await ready.wait()
    session.say(f"ready in {time.monotonic() - session.started:.1f} s")
    open_loop = workload.rate is not None
    rounds: type_rounds = []

    async def send(request: Request) -> Sent:
        items, second_at = [list(ids) for ids in request.items], []
        if rerank:
            asked = await items_of(run, tokenizer, prepared[request], cut)
            items, second_at = asked.items, asked.second_at
        pending = await engine.compute(items, math.inf, second_at)
        queued, computed = pending.started - pending.enqueued, pending.finished - pending.started
        return Sent(pending.num_tokens, queued, computed)

    async with contextlib.AsyncExitStack() as stack:
        url = ""
        bodies: list[dict[str, Any]] = []
        if options.transport == "http":
            listening = socket.create_server(("127.0.0.1", 0))
            route, bodies = _bodies(run, requests, rankings)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}{route}"
            await stack.enter_async_context(edge(session, engine, tokenizer, listening))
            clients = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        # The first round warms up what no Program does: connections, allocators, this loop.
        for number in range(options.rounds + 1):
            steps.clear()
            if options.transport == "http":
                samples = await asyncio.get_running_loop().run_in_executor(
                    clients, drive_http, url, bodies, requests, workload.concurrency, open_loop
                )
            else:
                samples = await drive(send, requests, workload.concurrency, open_loop)
            if number:
                rounds.append((samples, list(steps)))
                session.say(f"round {number} of {options.rounds}: {_took(samples):.2f} s")
    return rounds


async def _ranking(tokenizer: TextTokenizer, request: Request) -> Pairs:
    documents = [await tokenizer.decode(ids) for ids in request.items]
    return Pairs([await tokenizer.decode(request.query)], documents)


def _bodies(run: Run, requests: list[Request], rankings: list[Pairs]) -> tuple[str, list[dict[str, Any]]]:
    """Return the route that all requests go to, and the body of each."""
    said = {"model": run.served_name, "truncate_prompt_tokens": -1}
    if rankings:
        bodies = [{**said, "query": pairs.firsts[0], "documents": list(pairs.seconds)} for pairs in rankings]
        return "/v1/rerank", [{**body, "return_documents": False} for body in bodies]
    inputs = [[list(ids) for ids in request.items] for request in requests]
    if run.classifies:
        return "/v1/classify", [{**said, "input": given} for given in inputs]
    return "/v1/embeddings", [{**said, "input": given, "encoding_format": "base64"} for given in inputs]


def _took(samples: list[Sample]) -> float:
    return max(sample.answers[-1] for sample in samples) - min(sample.due for sample in samples)


def _keep(session: Session, rounds: type_rounds, folder: Path) -> None:
    run = session.run
    figures = summarise(rounds)
    startup = dict(session.startup.phases)
    console = Console(highlight=False, soft_wrap=True)
    print_figures(console, figures, startup)
    config: dict[str, Any] = asdict(run.config)
    about = {
        "model": run.served_name,
        "backend": run.config.backend.name,
        "dtype": run.config.model.dtype,
        "shapes": [str(shape) for shape in run.shapes],
        "workload": config["workload"],
        "transport": config["serve"]["transport"],
        "startup_seconds": startup,
        "cold_compile_seconds": cold_compile_seconds(run, plan_pooling(run.shapes).programs),
        "compiled": dict(session.startup.compiled),
        "figures": figures,
    }
    (folder / "bench.json").write_text(json.dumps(about, indent=1))
    samples = [sample for found, _ in rounds for sample in found]
    (folder / "samples.json").write_bytes(msgspec.json.encode(samples))
    if figures["num_failed"] < figures["num_requests"]:
        title = f"{run.served_name}, {run.config.backend.name}, {run.config.model.dtype}: {run.config.workload.name}"
        plot_bench(folder / "bench.png", title, figures, samples)
    session.say(f"figures and plot are in {folder}")
    if figures["num_failed"]:
        raise ServeError(f"{figures['num_failed']} of {figures['num_requests']} requests failed")
