"""What the user sees while the pipeline starts: a bar on a terminal, lines elsewhere."""

import sys
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sendnn_pipeline.config.schema import ConsoleName
from sendnn_pipeline.messages import StageEvent

# Of lines in files and pipes, which have no width of their own.
UNBOUNDED = 10_000
# Parts of a warmup that are told where they take long, as on a device; else they are a Program's first runs.
QUIET, TOLD_SECONDS = ("trace", "deploy"), 1.0


def open_consoles(name: ConsoleName, file: IO[str] | None = None) -> tuple[Console, Console]:
    """Return what prints notes and warnings, and what prints plan and stages.

    Args:
        name: where they print.
        file: takes all lines, whatever the name.
    """
    notes = open_console(file or (None if name == ConsoleName.stdout else sys.stderr))
    return notes, Console(quiet=True) if name == ConsoleName.quiet else notes


def open_console(file: IO[str] | None = None) -> Console:
    """Return a console, of standard output where no file is named, that cuts and breaks lines on terminals alone."""
    width = None if (file or sys.stdout).isatty() else UNBOUNDED
    return Console(file=file, width=width, highlight=False, soft_wrap=True)


@dataclass
class ConsoleProgress:
    """Prints each stage with its seconds."""

    console: Console
    bar: Progress | None = field(default=None, init=False)

    def on_stage(self, event: StageEvent) -> None:
        """Show what begins, what ended and after how long; of other ranks than the first, stages alone."""
        if event.stage == "serve":
            return
        if event.rank:
            if event.state == "finished" and not event.program:
                self.line(f"  rank {event.rank}: {event.stage} done in {event.seconds:.1f} s")
            return
        if event.state == "failed":
            # Room for the error.
            self._close()
        elif event.program:
            self._show_program(event)
        elif event.state == "finished":
            self._close()
            self.line(f"{event.stage} done in {event.seconds:.1f} s")
        elif not self.console.is_terminal:
            self.line(f"{event.stage} …")

    def _show_program(self, event: StageEvent) -> None:
        done = event.index if event.state == "finished" else event.index - 1
        if event.state == "finished" and (event.stage not in QUIET or event.seconds >= TOLD_SECONDS):
            detail = f", {event.source}" if event.source else ""
            detail += f" ({event.detail})" if event.source and event.detail else ""
            detail += f": {event.detail}" if event.detail and not event.source else ""
            self.line(f"  {event.stage} {event.index}/{event.total} {event.program} {event.seconds:.1f} s{detail}")
        if self.console.is_terminal:
            self._advance(event, done)

    def line(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        console = self.bar.console if self.bar else self.console
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _advance(self, event: StageEvent, done: int) -> None:
        if self.bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.start()
        if not self.bar.tasks or self.bar.tasks[-1].fields.get("stage") != event.stage:
            self.bar.add_task(event.stage, total=event.total, stage=event.stage)
        self.bar.update(self.bar.tasks[-1].id, completed=done, description=f"{event.stage} {event.program}")

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
