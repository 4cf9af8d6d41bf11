"""Where the start stands: for ``/startup``, the perf log and the metrics."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sendnn_pipeline.messages import StageEvent


@dataclass
class Startup:
    """Observes stages and remembers their seconds."""

    clock: Callable[[], float] = time.monotonic
    phases: dict[str, float] = field(default_factory=dict)
    programs: dict[str, dict[str, float]] = field(default_factory=dict)
    compiled: dict[str, float] = field(default_factory=dict)
    """Seconds of the Programs that had no artifact."""
    current: StageEvent | None = None
    began: float = field(init=False)
    ended: float | None = field(default=None, init=False)
    """When the engine was warm and began to serve."""

    def __post_init__(self) -> None:
        self.began = self.clock()

    def on_stage(self, event: StageEvent) -> None:
        """Remember what runs, and how long it took."""
        if event.rank or event.state == "failed":
            return
        if event.state == "started":
            self.current = event
            if event.stage == "serve":
                self.ended = self.clock()
        elif event.program:
            self.programs.setdefault(event.stage, {})[event.program] = event.seconds
            if event.source == "compiled":
                self.compiled[event.program] = event.seconds
            elif event.stage == "trace" and event.program in self.compiled:
                # A backend that compiles on the first call does it here.
                self.compiled[event.program] += event.seconds
            self.current = event
        else:
            self.phases[event.stage] = event.seconds

    def progress(self) -> dict[str, Any]:
        """Return what is done, what runs, and how long the start took, or takes until now."""
        now = self.current
        return {
            "stage": now.stage if now else "start",
            "program": now.program if now else "",
            "programs_done": {stage: len(done) for stage, done in self.programs.items()},
            "programs_compiled": len(self.compiled),
            "programs_total": now.total if now else 0,
            "elapsed_seconds": round((self.ended or self.clock()) - self.began, 3),
            "phases_seconds": {name: round(seconds, 3) for name, seconds in self.phases.items()},
        }
