"""One run: resolve, show the plan, then load, compile, warm up and serve."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sendnn_pipeline.app.composed import ComposedRun, find_source
from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.engine_environment import engine_environment
from sendnn_pipeline.app.engine_start import note_restarts, start_of
from sendnn_pipeline.app.launch import Launch
from sendnn_pipeline.app.nodes import follow_node
from sendnn_pipeline.app.plan_table import plan_lines, print_plan
from sendnn_pipeline.app.resolve import ResolvedRun, resolve_run
from sendnn_pipeline.app.target import create_target, describe_target
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.layers import LayeredConfig
from sendnn_pipeline.config.schema import StageName
from sendnn_pipeline.config.secrets import read_api_keys
from sendnn_pipeline.config.serving import LogConfig, LogFormat
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import PipelineError, ServeError
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.target import RunningEngine, ServeTarget, Session
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.hooks.timeout import blame, located
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.messages import Ready
from sendnn_pipeline.observe.console import ConsoleProgress, open_consoles
from sendnn_pipeline.observe.logs import LogStream, logging_to_stderr
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.observers import Observers, StageListener
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.registry import OwnedRegistry
from sendnn_pipeline.observe.startup import Startup
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.programs.times import CompileTimes

Say = Callable[[str], None]
log = logging.getLogger(__name__)


def run_composed(
    context: AppContext, layered: LayeredConfig, notes: Console, progress: Console, launch: Launch
) -> None:
    """Run what the composed overrides describe, to its end.

    Args:
        context: plugins, options and environment.
        layered: the composed command line, without sweeps.
        notes: prints notes and warnings.
        progress: prints plan and stages.
        launch: of this process.

    Raises:
        PipelineError: the run cannot start, or failed.
    """
    config: LogConfig = layered.draft.group("log")
    with logging_to_stderr(config):
        if config.format == LogFormat.text:
            _run(context, layered, notes, progress, launch)
            return
        notes, progress = open_consoles(layered.draft.group("console"), LogStream(log))
        try:
            _run(context, layered, notes, progress, launch)
        except PipelineError as error:
            log.error("%s", error)
            error.is_logged = True
            raise


def _run(context: AppContext, layered: LayeredConfig, notes: Console, progress: Console, launch: Launch) -> None:
    say: Say = partial(notes.print, highlight=False, markup=False, soft_wrap=True)
    context.plugins.on_failure = lambda failed: say(f"warning: plugin {failed.name} is called no more: {failed.reason}")
    composed = find_source(context, layered)
    resolved = resolve_run(context, composed, _fetch(composed, say))
    run, draft = resolved.run, resolved.draft
    threads = plan_threads(run.config.process, context.environ, len(run.config.parallel.local_ranks))
    environment = {**threads.environment, **engine_environment(resolved, context.environ)}
    api_keys = read_api_keys(context.environ, run.config.serve.api_key_file, draft.where("serve.api_key_file"))
    endpoints = collect_endpoints(context.plugins, run.config.engine.name)
    target = _prepare_target(context.plugins, run, draft, endpoints)
    note_restarts(draft, target)
    lines = plan_lines(resolved, f"{threads.count}  ({threads.reason})")
    print_plan(progress, resolved, lines)
    for notice in (*draft.notices, *threads.warnings):
        say(f"note: {notice}")
    with observe_run(context.plugins, resolved, progress, say) as observers:
        session = make_session(
            resolved,
            start=start_of(run, target, environment, context.environ, launch.standby),
            endpoints=endpoints,
            observers=observers,
            say=say,
            api_keys=api_keys,
            started=launch.started,
            about={
                "plugins": [plugin.name for plugin in context.plugins.loaded],
                "plan": [asdict(line) for line in lines],
            },
        )
        if run.config.parallel.node_rank:
            asyncio.run(follow_node(session))
        elif target is not None:
            _serve(target, replace(session, description=context.description))
        else:
            asyncio.run(_follow(session))


def make_session(
    resolved: ResolvedRun,
    *,
    start: Callable[[], RunningEngine],
    endpoints: Mapping[str, Endpoint[Any]],
    observers: "RunObservers",
    say: Say,
    api_keys: tuple[str, ...],
    started: float,
    about: Mapping[str, Any],
) -> Session:
    """Return what a target needs of the run."""
    info = observers.metrics.backend_info
    versions = ", ".join(f"{name} {value}" for name, value in resolved.backend.fingerprint().items())
    info.labels(resolved.backend.name, versions, resolved.run.config.device, "none").set(1)
    return Session(
        run=resolved.run,
        start=start,
        endpoints=endpoints,
        observe=observers.events,
        say=say,
        on_ready=partial(_record, resolved.run, observers.startup, say),
        metrics=observers.metrics,
        startup=observers.startup,
        perf_log=observers.perf_log,
        api_keys=api_keys,
        started=started,
        about=about,
    )


def _fetch(composed: ComposedRun, say: Say) -> Path:
    here = composed.locate()
    if here is not None:
        return here
    began = time.monotonic()
    say(f"fetching {composed.draft['model.path']} from source {composed.source.name} …")
    folder = composed.fetch()
    say(f"fetched in {time.monotonic() - began:.1f} s to {folder}")
    return folder


def _prepare_target(
    plugins: Plugins, run: Run, draft: Draft, endpoints: Mapping[str, Endpoint[Any]]
) -> ServeTarget | None:
    if StageName.serve not in run.config.pipeline.stages:
        return None
    name = run.config.serve.target
    target = create_target(plugins, name, where=draft.where("serve.target"))
    with blame(describe_target(plugins, name)):
        if not run.config.parallel.node_rank:
            target.prepare(run, endpoints)
    return target


def _serve(target: ServeTarget, session: Session) -> None:
    try:
        target.run(session)
    except RequestError as error:
        # A target may leave it to us to say what the engine refused.
        raise ServeError(f"serve.target={session.run.config.serve.target} was refused: {error.message}") from error


@dataclass(frozen=True)
class RunObservers:
    """Who is told what happens in a run."""

    events: Observers
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None


@contextmanager
def observe_run(plugins: Plugins, resolved: ResolvedRun, progress: Console, say: Say) -> Iterator[RunObservers]:
    """Yield the observers of a run, ours and the plugins'."""
    run = resolved.run

    def drop(plugin: str, error: Exception) -> None:
        metrics.plugin_failures.inc()
        plugins.fail(plugin, f"collecting its metrics failed: {located(error)}")

    registry = OwnedRegistry(drop)
    metrics = Metrics(registry, run.served_name, run.plan.max_input_tokens, run.plan.measures)
    # After ours: of two metrics with one name, the plugin's is the one that fails.
    plugins.collect("register_metrics", registry=registry.of, run=lambda _: run)
    metrics.plugin_failures.inc(len(plugins.failures))
    startup, perf_log = Startup(), None
    listeners: list[StageListener] = [startup, metrics, ConsoleProgress(progress)]
    if run.config.metrics.perf_log.enabled:
        perf_log = PerfLog(
            expand_path(run.config.metrics.perf_log.dir, "metrics.perf_log.dir"),
            uuid.uuid4().hex[:12],
            run.served_name,
            run.config.parallel.local_ranks,
        )
        perf_log.open()
        listeners.append(perf_log)

    def report(line: str) -> None:
        metrics.plugin_failures.inc()
        say(f"note: {line}")

    with Observers(listeners, plugins, run, report) as events:
        yield RunObservers(events, metrics, startup, perf_log)


def _record(run: Run, startup: Startup, say: Say, ready: Ready) -> None:
    """Keep what this start took to compile, for the plans of later ones."""
    try:
        if startup.compiled:
            CompileTimes(run.cache_dir).record(run.timing_prefix, startup.compiled)
    except OSError as error:
        say(f"note: measured times are not saved: {run.cache_dir} cannot be written: {error.strerror}")


async def _follow(session: Session) -> None:
    """Follow a run that does not serve to its end."""
    engine, warm = session.start(), False
    try:
        async for message in session.follow(engine):
            warm = warm or isinstance(message, Ready)
    finally:
        engine.kill()
    what = "warm" if warm else f"done through {session.run.config.pipeline.stages[-1]}"
    session.say(f"{session.run.served_name} is {what} after {time.monotonic() - session.started:.1f} s")
