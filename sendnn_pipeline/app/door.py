"""An engine from Python: the same run, engine and endpoints as behind HTTP, in a thread of this process."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from rich.console import Console

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.engine_environment import engine_environment, extend_own_environment
from sendnn_pipeline.app.plan_table import plan_lines, print_plan
from sendnn_pipeline.app.resolve import ResolvedRun, resolve_run
from sendnn_pipeline.app.run import make_session, observe_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.distributed.inline import start_inline
from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.frontend.target import RunningEngine
from sendnn_pipeline.frontend.warm import WarmEngine
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.pipeline.rank import JOB, run_rank

T = TypeVar("T")

# By the route that each asks for.
DOORS = {"/v1/embeddings": "Embedder", "/v1/completions": "Generator"}


class EngineDoor:
    """Starts an engine when it is entered, or at the first call, and ends it when it is left or closed.

    Args:
        overrides: as the command line has them, ``key=value``.
        verbose: print the plan and the stages.
    """

    route: ClassVar[str] = ""
    """What the engine has to answer for the methods; empty is anything."""

    def __init__(self, *overrides: str, verbose: bool = False) -> None:
        self._overrides, self._console = overrides, Console(quiet=not verbose)
        self._engine: _RunningEngine | None = None
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Load, compile and warm up, unless that is done.

        Raises:
            PipelineError: the run cannot start; the message says why and what to do.
        """
        self._started()

    def _started(self) -> "_RunningEngine":
        with self._changing:
            if self._engine is None:
                context = load_context(process_environment())
                composed = compose_run(context, parse_overrides(self._overrides))
                resolved = resolve_run(context, composed, composed.fetch())
                self._check_engine(context, resolved.run)
                engine = _RunningEngine(context, resolved, self._console)
                engine.start()
                self._engine = engine
            return self._engine

    def _check_engine(self, context: AppContext, run: Run) -> None:
        name = run.config.engine.name
        routes = collect_endpoints(context.plugins, name)
        if self.route and self.route not in routes:
            others = [door for route, door in DOORS.items() if route in routes]
            answers = f"it answers {', '.join(routes)}: ask it over HTTP" if routes else "it answers nothing"
            raise ConfigError(
                f"{type(self).__name__} asks for {self.route}, which engine={name} of {run.served_name} has not",
                hint=f"use {others[0]}" if others else answers,
            )

    def close(self) -> None:
        """End the engine and its threads; calls that are under way are answered."""
        with self._changing:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def ask(self, question: Callable[[WarmEngine], Coroutine[Any, Any, T]]) -> T:
        """Return the engine's answer to a question, such as ``lambda engine: engine.ask("/v1/embeddings", body)``."""
        return self._started().ask(question)


def _start(run: Run, variables: Mapping[str, str], context: AppContext) -> RunningEngine:
    """Start the engine in a thread of this process; several ranks in processes of their own."""
    if node := run.config.parallel.node_rank:
        raise ConfigError(
            f"parallel.node_rank={node} answers nobody", hint="start it from the command line; node 0 is asked"
        )
    if run.plan.ranks == 1:
        return start_inline(run_rank, run)
    threads = plan_threads(run.config.process, context.environ, len(run.config.parallel.local_ranks))
    return start_ranks(JOB, run, {**threads.environment, **variables}, context.environ)


class _RunningEngine:
    """The event loop in a thread of its own, since a notebook has one already; the engine in another."""

    def __init__(self, context: AppContext, resolved: ResolvedRun, console: Console) -> None:
        self._context, self._resolved, self._console = context, resolved, console
        self._endpoints = collect_endpoints(context.plugins, resolved.run.config.engine.name)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sendnn-engine", daemon=True)
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Run until the engine is warm."""
        self._thread.start()
        started: Future[WarmEngine] = Future()
        self._running = asyncio.run_coroutine_threadsafe(self._run(started), self._loop)
        either: list[Future[Any]] = [started, self._running]
        wait(either, return_when=FIRST_COMPLETED)
        if not started.done():
            self._stop_loop()
            self._running.result()
        self._engine = started.result()

    def ask(self, question: Callable[[WarmEngine], Coroutine[Any, Any, T]]) -> T:
        """Return the engine's answer."""
        asked = asyncio.run_coroutine_threadsafe(question(self._engine), self._loop)
        try:
            return asked.result()
        except BaseException:
            # Ctrl-C, too, takes the request out of the queue.
            asked.cancel()
            raise

    def close(self) -> None:
        """End engine and loop."""
        self._loop.call_soon_threadsafe(self._closing.set)
        try:
            self._running.result()
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _run(self, started: "Future[WarmEngine]") -> None:
        resolved, context, console = self._resolved, self._context, self._console
        run = resolved.run
        variables = engine_environment(resolved, context.environ)
        if run.plan.ranks == 1:
            extend_own_environment(resolved.backend, variables)
        print_plan(console, resolved, plan_lines(resolved, str(run.threads)))
        say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
        with observe_run(context.plugins, resolved, console, say) as observers:
            session = make_session(
                resolved,
                start=partial(_start, run, variables, context),
                endpoints=self._endpoints,
                observers=observers,
                say=say,
                api_keys=(),
                started=time.monotonic(),
                about={},
            )
            async with session.warm_engine() as engine:
                client = engine.front.client
                if client.dead is None:
                    started.set_result(engine)
                # Where it is gone, the block ends with the reason.
                await self._closing.wait()
                await client.drain(math.inf)
