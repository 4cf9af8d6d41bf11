"""One run: describe, plan, then load, compile, warm up and serve."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from rich.console import Console

from sendnn_pipeline.config.cpu import THREAD_VARIABLES, check_threads, count_cpus, read_cpu_facts, threads_per_worker
from sendnn_pipeline.config.layers import Layered, Provenance
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.config.schema import ProcessConfig
from sendnn_pipeline.config.secrets import read_api_key
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.rank import Rank, start_rank
from sendnn_pipeline.distributed.target import ServeTarget, Session
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.host import Host
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.messages import Ready, StageEvent
from sendnn_pipeline.observe.console import ConsoleProgress
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.startup import Startup
from sendnn_pipeline.pipeline.describe import Described, describe_layered, read_and_resolve
from sendnn_pipeline.pipeline.plan import Plan, print_plan
from sendnn_pipeline.pipeline.rank import JOB
from sendnn_pipeline.programs.checkpoint import count_parameters
from sendnn_pipeline.programs.price import PriceBook, StepBook, price_key
from sendnn_pipeline.programs.program import plan_pooling


@dataclass(frozen=True)
class Threads:
    """Threads of each engine process and the variables that set them."""

    count: int
    reason: str
    environment: Mapping[str, str]
    warnings: Sequence[str]


def run_layered(host: Host, layered: Layered, console: Console, started: float) -> None:
    """Run what the composed words describe, to its end.

    Args:
        host: plugins, options and environment.
        layered: the composed command line, without sweeps.
        console: where the user reads.
        started: monotonic seconds at which the process began.

    Raises:
        PipelineError: the run cannot start, or failed.
    """
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    described = describe_layered(host, layered)
    folder = _fetch(described, say)
    resolved, backend = read_and_resolve(host, described, folder)
    run, provenance = resolved.run, resolved.provenance
    num_parameters = count_parameters(run.model)
    threads = plan_threads(run.config.process, dict(host.environ))
    environment = {**threads.environment, **backend.prepare(run, host.environ)}
    api_key = read_api_key(host.environ, run.config.serve.api_key_file, provenance.where("serve.api_key_file"))
    target = _claim_target(host.plugins, run, provenance)
    prices = PriceBook(run.cache_dir / PriceBook.FILE)
    copies = 1 + len(run.shapes) if backend.embeds_weights(run) else 1
    plan = Plan(run, num_parameters, copies, prices.read(), threads.count, threads.reason)
    print_plan(console, plan, provenance)
    for notice in (*run.notices, *threads.warnings):
        say(f"note: {notice}")
    observers = _observe(host.plugins, run, console)
    info = observers.metrics.backend_info
    made_by = ", ".join(f"{name} {value}" for name, value in backend.fingerprint(run).items())
    info.labels(run.config.backend.name, made_by, run.config.device, "none").set(1)
    session = Session(
        run=run,
        start_rank=lambda address: start_rank(JOB, run, address, environment),
        observe=partial(_observe_event, host.plugins, observers.metrics),
        say=say,
        on_ready=partial(_record, run, prices, observers.startup, say),
        metrics=observers.metrics,
        startup=observers.startup,
        perf_log=observers.perf_log,
        api_key=api_key,
        started=started,
        about={"plugins": [plugin.name for plugin in host.plugins.loaded]},
    )
    if target is not None:
        target.run(session)
        return
    with new_address() as address:
        asyncio.run(_follow(session, session.start_rank(address)))


def _fetch(described: Described, say: Callable[[str], None]) -> Path:
    here = described.source.locate(described.model, described.cache_dir)
    if here is not None:
        return here
    began = time.monotonic()
    say(f"fetching {described.model.path} from source {described.source_name} …")
    folder = described.source.fetch(described.model, described.cache_dir)
    say(f"fetched in {time.monotonic() - began:.1f} s to {folder}")
    return folder


def plan_threads(process: ProcessConfig, environ: dict[str, str], workers: int = 1) -> Threads:
    """Decide the threads of each engine process.

    Raises:
        ConfigError: nothing says how many CPUs there are.
    """
    cpus, reason = count_cpus(process.num_cpus, read_cpu_facts())
    if cpus is None:
        if process.update_thread_config:
            raise ConfigError(
                f"threads cannot be set: {reason}",
                hint="set process.num_cpus (SENDNN_INFERENCE_NUM_CPUS), or process.update_thread_config=false",
            )
        return Threads(0, reason, {}, ())
    count = threads_per_worker(cpus, workers)
    if process.update_thread_config:
        return Threads(count, reason, {name: str(count) for name in THREAD_VARIABLES}, ())
    return Threads(count, "process.update_thread_config=false: not set", {}, check_threads(environ, count))


def _claim_target(plugins: Plugins, run: Run, provenance: Provenance) -> ServeTarget | None:
    if "serve" not in run.config.pipeline.stages:
        return None
    targets = plugins.registry("register_serve_targets", "serve target")
    where = provenance.where("serve.target")
    target: ServeTarget = targets.create(run.config.serve.target, where=where, missing=plugins.missing())
    target.claim(run)
    return target


@dataclass(frozen=True)
class _Observers:
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None


def _observe(plugins: Plugins, run: Run, console: Console) -> _Observers:
    registry = CollectorRegistry()
    plugins.collect("register_metrics", registry=lambda _: registry)
    metrics = Metrics(registry, run.served_name, plan_pooling(run.shapes).longest)
    metrics.plugin_failures.inc(len(plugins.failures))
    startup = Startup()
    plugins.add("run.startup", startup)
    plugins.add("run.console", ConsoleProgress(console))
    perf_log = None
    if run.config.metrics.perf_log.enabled:
        perf_log = PerfLog(Path(run.config.metrics.perf_log.dir), uuid.uuid4().hex[:12], run.served_name)
        perf_log.claim()
        plugins.add("run.perf_log", perf_log)
    return _Observers(metrics, startup, perf_log)


def _observe_event(plugins: Plugins, metrics: Metrics, event: StageEvent) -> None:
    metrics.staged(event)
    plugins.observe(f"stage_{event.state}", event=event)


def _record(run: Run, prices: PriceBook, startup: Startup, say: Callable[[str], None], ready: Ready) -> None:
    """Keep what this start measured, for the plans of later ones."""
    programs = plan_pooling(run.shapes).programs
    compiled = startup.compiled
    seconds = {price_key(run, program): compiled[program.name] for program in programs if program.name in compiled}
    steps = StepBook(run.cache_dir / StepBook.FILE)
    try:
        prices.record(seconds)
        for program in programs if ready.measured else ():
            mine = [step for step in ready.steps if step.program == program.name]
            steps.record(price_key(run, program), {(step.batch_size, step.length): step.ms for step in mine})
    except OSError as error:
        say(f"note: measured times are not kept: {run.cache_dir} cannot be written: {error.strerror}")


async def _follow(session: Session, rank: Rank) -> None:
    """Follow a run that does not serve to its end."""
    ready: Any = None
    try:
        async for message in session.follow(rank):
            if isinstance(message, Ready):
                ready = message
    finally:
        rank.kill()
    what = "warm" if ready is not None else f"done through {session.run.config.pipeline.stages[-1]}"
    session.say(f"{session.run.served_name} is {what} after {time.monotonic() - session.started:.1f} s")
