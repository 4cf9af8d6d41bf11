"""Stages in order, each observed."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sendnn_pipeline.messages import StageEvent

type_observe = Callable[[StageEvent], None]


class Stage(Protocol):
    """One step of the pipeline; its type says what it takes and what it gives."""

    name: str

    def run(self, given: Any) -> Any:
        """Do the work."""


def run_stages(stages: Sequence[Stage], given: Any, observe: type_observe) -> Any:
    """Hand the result of each stage to the next and report how it went.

    Returns:
        What the last stage gives.
    """
    for stage in stages:
        observe(StageEvent(stage.name, "started"))
        started = time.monotonic()
        try:
            given = stage.run(given)
        except Exception as error:
            seconds = time.monotonic() - started
            observe(StageEvent(stage.name, "failed", seconds=seconds, detail=" ".join(str(error).split())))
            raise
        observe(StageEvent(stage.name, "finished", seconds=time.monotonic() - started))
    return given
