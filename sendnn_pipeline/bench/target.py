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
from sendnn_pipeline.bench.load import Sample, drive, drive_http
from sendnn_pipeline.bench.plot import plot_bench
from sendnn_pipeline.bench.report import print_figures, summarise
from sendnn_pipeline.bench.requests import Request, make_requests, prose
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.distributed.target import Session
from sendnn_pipeline.errors import ConfigError, ServeError
from sendnn_pipeline.messages import Ready, StepDone
from sendnn_pipeline.programs.price import cold_compile_seconds
from sendnn_pipeline.programs.program import plan_pooling
from sendnn_pipeline.server.engine_client import EngineClient
from sendnn_pipeline.server.http import edge
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
    engine = EngineClient(rank, session.metrics, max_queue=2**31)
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
    requests = make_requests(workload, longest, corpus, around)
    await ready.wait()
    session.say(f"ready in {time.monotonic() - session.started:.1f} s")
    open_loop = workload.rate is not None
    rounds: type_rounds = []

    async def send(request: Request) -> tuple[float, float]:
        pending = await engine.embed([list(ids) for ids in request.items], math.inf)
        return pending.started - pending.enqueued, pending.finished - pending.started

    async with contextlib.AsyncExitStack() as stack:
        url = ""
        if options.transport == "http":
            listening = socket.create_server(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            await stack.enter_async_context(edge(session, engine, tokenizer, listening))
            clients = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        # The first round warms up what no Program does: connections, allocators, this loop.
        for number in range(options.rounds + 1):
            steps.clear()
            if options.transport == "http":
                samples = await asyncio.get_running_loop().run_in_executor(
                    clients, drive_http, url, run.served_name, requests, workload.concurrency, open_loop
                )
            else:
                samples = await drive(send, requests, workload.concurrency, open_loop)
            if number:
                rounds.append((samples, list(steps)))
                session.say(f"round {number} of {options.rounds}: {_took(samples):.2f} s")
    return rounds


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
