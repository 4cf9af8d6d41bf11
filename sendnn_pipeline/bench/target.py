"""The serve target ``bench``: the engine under a named workload, in rounds."""

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.bench.comparison import title_of
from sendnn_pipeline.bench.config import BenchConfig
from sendnn_pipeline.bench.plot import plot_bench
from sendnn_pipeline.bench.report import print_figures, summarise
from sendnn_pipeline.bench.requests import check_workload
from sendnn_pipeline.bench.rounds import Round, run_rounds
from sendnn_pipeline.bench.route import Route, choose_route
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError, ServeError, counted
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.frontend.tokenizer import TextTokenizer, load_tokenizer
from sendnn_pipeline.machine.cpu import cpu_name
from sendnn_pipeline.messages import FromEngine, StepDone
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.programs.times import CompileTimes


@dataclass
class BenchTarget:
    """Runs the workload, prints figures, and keeps them with a plot."""

    ends = True
    keys: tuple[str, ...] = ("workload.",)
    folder: Path | None = field(default=None, init=False)
    tokenizer: TextTokenizer | None = field(default=None, init=False)
    route: Route | None = field(default=None, init=False)
    left_out: str = field(default="", init=False)

    def prepare(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Check the workload, choose the route, make the folder and read the tokenizer before weights are loaded."""
        options = run.config.serve
        assert isinstance(options, BenchConfig)
        self.left_out = check_workload(run.config.workload)
        self.route = choose_route(run, endpoints)
        self.tokenizer = load_tokenizer(run.model.folder)
        try:
            if options.output is None:
                self.folder = Path(tempfile.mkdtemp(prefix="sendnn_pipeline-bench-"))
            else:
                self.folder = expand_path(options.output, "serve.output")
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"serve.output={options.output} cannot be written: {error.strerror}") from None

    def check(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Refuse what ``prepare`` would, but for a folder that cannot be made."""
        check_workload(run.config.workload)
        choose_route(run, endpoints)

    def run(self, session: Session) -> None:
        """Start the engine, run all rounds, and say where the figures are."""
        assert self.folder is not None and self.tokenizer is not None and self.route is not None
        if self.left_out:
            session.say(f"note: {self.left_out}")
        try:
            rounds = asyncio.run(_run(session, self.tokenizer, self.route))
        finally:
            self.tokenizer.close()
        _write(session, rounds, self.folder)


async def _run(session: Session, tokenizer: TextTokenizer, route: Route) -> list[Round]:
    steps: list[StepDone] = []

    def listen(message: FromEngine) -> None:
        if isinstance(message, StepDone):
            steps.append(message)

    async with session.engine(listen=listen) as client:
        return await run_rounds(session, client, tokenizer, route, steps)


def _write(session: Session, rounds: Sequence[Round], folder: Path) -> None:
    """Print the figures and write them with their plot.

    Raises:
        ServeError: a request failed.
    """
    run = session.run
    figures = summarise(rounds, run.config.workload.goodput)
    startup = dict(session.startup.phases)
    console = open_console()
    print_figures(console, figures, startup)
    config: dict[str, Any] = asdict(run.config)
    about = {
        "model": run.served_name,
        "backend": run.config.backend.name,
        "dtype": run.config.model.dtype,
        "programs": [program.name for program in run.plan.programs],
        "workload": config["workload"],
        "transport": config["serve"]["transport"],
        "machine": f"{cpu_name()}, {counted(run.threads, 'thread')}" if run.threads else cpu_name(),
        "date": datetime.now(UTC).date().isoformat(),
        "startup_seconds": startup,
        "cold_compile_seconds": CompileTimes(run.cache_dir).total(run.timing_prefix, run.plan.programs),
        "compiled": dict(session.startup.compiled),
        "figures": figures,
    }
    (folder / "bench.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    samples = [sample for found, _ in rounds for sample in found]
    (folder / "samples.json").write_bytes(msgspec.json.encode(samples))
    if figures["num_failed"] < figures["num_requests"]:
        plot_bench(folder / "bench.png", title_of([about]), figures, samples)
    session.say(f"figures and plot are in {folder}")
    if figures["num_failed"]:
        raise ServeError(f"{figures['num_failed']} of {figures['num_requests']} requests failed")
