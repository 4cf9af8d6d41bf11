"""What the user sees while the pipeline starts: a bar on a terminal, lines elsewhere."""

from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.messages import StageEvent


@dataclass
class ConsoleProgress:
    """Observes stages and prints each with its seconds."""

    console: Console
    bar: Progress | None = field(default=None, init=False)

    @hookimpl
    def stage_started(self, event: StageEvent) -> None:
        """Show what begins."""
        if event.stage == "serve":
            return
        if not event.program:
            if not self.console.is_terminal:
                self.line(f"{event.stage} …")
            return
        if self.console.is_terminal:
            self._advance(event, event.place - 1)

    @hookimpl
    def stage_finished(self, event: StageEvent) -> None:
        """Show what ended and after how long."""
        if event.stage == "serve":
            return
        if event.program:
            detail = f", {event.source}" if event.source else ""
            detail += f": {event.detail}" if event.detail else ""
            self.line(f"  {event.stage} {event.place}/{event.count} {event.program} {event.seconds:.1f} s{detail}")
            if self.console.is_terminal:
                self._advance(event, event.place)
            return
        self._close()
        self.line(f"{event.stage} done in {event.seconds:.1f} s")

    @hookimpl
    def stage_failed(self, event: StageEvent) -> None:
        """Make room for the error."""
        self._close()

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
            self.bar.add_task(event.stage, total=event.count, stage=event.stage)
        self.bar.update(self.bar.tasks[-1].id, completed=done, description=f"{event.stage} {event.program}")

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
