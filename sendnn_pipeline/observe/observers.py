"""Who is told what happens: ours at once, plugins' in a thread of their own, so that a slow one holds up nobody."""

import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.messages import StageEvent

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run

# What plugins' observers may take, all together, after the run's last event.
CLOSE_SECONDS = 2.0


class StageListener(Protocol):
    """Is told of every event."""

    def on_stage(self, event: StageEvent) -> None:
        """Take an event; quick, since probes wait for the same loop."""


class Observers:
    """Hands events to everybody, in their order.

    Args:
        own: told at once, in the thread that tells.
        plugins: told in another thread.
        run: that is observed.
        report: takes a line about a plugin that failed or hangs, from either thread.
    """

    def __init__(
        self, own: Sequence[StageListener], plugins: Plugins, run: "Run", report: Callable[[str], None]
    ) -> None:
        self._own, self._plugins, self._run, self._report = own, plugins, run, report
        self._events: queue.SimpleQueue[StageEvent | None] = queue.SimpleQueue()
        self._telling = ""
        """The plugin that is told now."""
        self._thread = threading.Thread(target=self._tell_plugins, name="observers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._report(f"plugin {self._telling} observes for more than {CLOSE_SECONDS:g} s and is left behind")

    def __call__(self, event: StageEvent) -> None:
        """Tell everybody."""
        for listener in self._own:
            listener.on_stage(event)
        self._events.put(event)

    def _tell_plugins(self) -> None:
        while (event := self._events.get()) is not None:
            hook = f"stage_{event.state}"
            for name in self._plugins.names(hook):
                self._telling = name
                failure = self._plugins.observe(hook, name, event=event, run=self._run)
                if failure is not None:
                    self._report(f"plugin {failure.name} ({failure.distribution}) is dropped: {failure.reason}")
