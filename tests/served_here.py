"""A real server in a thread of this process, its engine in another: for what a model answers over HTTP.

Processes of its own, which are what ``Served`` is for, spend seven seconds on the imports of torch and transformers.
"""

import asyncio
import io
import threading
import time
from typing import Self

import httpx
import uvloop

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.plan_table import plan_lines, print_plan
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.app.run import make_session, observe_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.distributed.inline import start_inline
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.pipeline.rank import run_rank
from sendnn_pipeline.server.http import serve
from sendnn_pipeline.server.target import HttpTarget
from tests.served import Address, environment

# The handlers of signals are the main thread's.
WORDS = ("serve.port=0", "process.override_signal_handlers=false")


class ServedHere(Address):
    """A server that runs while the ``with`` block does.

    Args:
        words: its command line.
        seconds: what it may take to be ready, and to end.
    """

    def __init__(self, *words: str, seconds: float = 120) -> None:
        self.words, self.seconds = words, seconds
        self._printed = io.StringIO()

    def __enter__(self) -> Self:
        self._context = load_context(environment())
        composed = compose_run(self._context, parse_overrides([*self.words, *WORDS]))
        self._resolved = resolve_run(self._context, composed, composed.fetch())
        self._printed.writelines(f"note: {notice}\n" for notice in self._resolved.draft.notices)
        self._loop, self._task = uvloop.new_event_loop(), None
        self._thread = threading.Thread(target=self._run, name="served-here")
        self._thread.start()
        self.session = httpx.Client(timeout=60)
        ends = time.monotonic() + self.seconds
        while not self.url:
            assert self._thread.is_alive() and time.monotonic() < ends, f"the server is not ready:\n{self.output}"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(self.seconds)
        assert not self._thread.is_alive()

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self._printed.getvalue()

    @property
    def lines(self) -> list[str]:
        """The same by line."""
        return self.output.splitlines()

    def _say(self, line: str) -> None:
        self._printed.write(f"{line}\n")
        if line.startswith("serving "):
            self.url = line.partition(" at ")[2].partition("/v1,")[0]

    def _run(self) -> None:
        run = self._resolved.run
        endpoints = collect_endpoints(self._context.plugins, run.config.engine.name)
        target = HttpTarget()
        target.prepare(run, endpoints)
        console = open_console(self._printed)
        print_plan(console, self._resolved, plan_lines(self._resolved, str(run.threads)))
        with target.listening, observe_run(self._context.plugins, self._resolved, console, self._say) as observers:
            session = make_session(
                self._resolved,
                start=lambda: start_inline(run_rank, run),
                endpoints=endpoints,
                observers=observers,
                say=self._say,
                api_keys=(),
                started=time.monotonic(),
                about={"plugins": [plugin.name for plugin in self._context.plugins.loaded], "plan": []},
            )
            try:
                self._loop.run_until_complete(self._serve(session, target))
            except asyncio.CancelledError:
                pass
            finally:
                self._loop.close()

    async def _serve(self, session: Session, target: HttpTarget) -> None:
        self._task = asyncio.current_task()
        try:
            await serve(session, target.listening, target.tokenizer)
        finally:
            for other in asyncio.all_tasks() - {self._task}:
                other.cancel()
