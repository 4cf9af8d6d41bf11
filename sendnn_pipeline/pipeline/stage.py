"""Stages in order, each observed."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sendnn_pipeline.messages import StageEvent

log = logging.getLogger(__name__)
StageObserver = Callable[[StageEvent], None]


class Stage(Protocol):
    """One step of the pipeline; its type says what it takes and what it returns."""

    name: str

    def run(self, value: Any) -> Any:
        """Do the stage's work on the result of the one before."""


def run_stages(stages: Sequence[Stage], value: Any, observe: StageObserver) -> Any:
    """Hand the result of each stage to the next and report how it went.

    Returns:
        The result of the last stage.
    """
    for stage in stages:
        observe(StageEvent(stage.name, "started"))
        started = time.monotonic()
        try:
            value = stage.run(value)
        except Exception as error:
            seconds = time.monotonic() - started
            observe(StageEvent(stage.name, "failed", seconds=seconds, detail=" ".join(str(error).split())))
            raise
        seconds = time.monotonic() - started
        log.debug("%s done", stage.name, extra={"fields": {"seconds": round(seconds, 3)}})
        observe(StageEvent(stage.name, "finished", seconds=seconds))
    return value
