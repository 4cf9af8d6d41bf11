"""How far a batch is: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sendnn_pipeline.batch.sink import Sink
from sendnn_pipeline.batch.work import Work
from sendnn_pipeline.errors import ServeError, counted

LINE_EVERY_SECONDS = 10.0


class Reporter:
    """Shows the share of the input that is answered, and for how long it will go on."""

    def __init__(self, say: Callable[[str], None], work: Work) -> None:
        self._say, self._work, self._last_line = say, work, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), transient=True)
        self.bar.disable = not self.bar.console.is_terminal
        self._task = self.bar.add_task("bytes", total=work.source.size, completed=work.sink.progress.input_offset)
        self._began, self._first = time.monotonic(), work.sink.progress.input_offset

    def show(self) -> None:
        """Show where the work is now."""
        progress, now = self._work.sink.progress, time.monotonic()
        self.bar.update(
            self._task, completed=progress.input_offset, description=f"{counted(progress.num_lines, 'line')}"
        )
        if self.bar.disable and now - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = now
            self._say(f"{counted(progress.num_lines, 'line')}{self._to_go(progress.input_offset, now)}")

    def _to_go(self, offset: int, now: float) -> str:
        size = self._work.source.size
        if size is None:
            return ""
        left = (size - offset) * (now - self._began) / max(1, offset - self._first)
        return f", {offset / max(1, size):.0%}, about {left:.0f} s to go"


def describe(sink: Sink) -> str:
    """Return how many lines there are, and how many of them are bad."""
    progress = sink.progress
    bad = f", {progress.num_bad} of them bad (see {sink.side})" if progress.num_bad else ""
    return f"{counted(progress.num_lines, 'line')}{bad}"


def check_any_good(source: str, sink: Sink) -> None:
    """Refuse to call a file done of which nothing could be answered: it is another file than was meant.

    Raises:
        ServeError: there are lines, and all are bad.
    """
    progress = sink.progress
    if not progress.num_lines or progress.num_bad < progress.num_lines:
        return
    raise ServeError(
        f"serve.input={source} has {counted(progress.num_lines, 'line')} and no good one{sink.first_problem}",
        hint=f"{sink.side} has the reasons",
    )
