"""What a serve target is: where a warm engine is offered."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.messages import FromEngine, Ready, StageEvent
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.startup import Startup


@dataclass(frozen=True)
class Session:
    """What a target needs of the run that it serves."""

    run: Run
    start_rank: Callable[[str], Rank]
    """Spawn the engine with the port's address."""
    observe: Callable[[StageEvent], None]
    """Tell the observers what happened."""
    say: Callable[[str], None]
    """Print one line for the user."""
    on_ready: Callable[[Ready], None]
    """Record what the warm engine said of itself."""
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None
    api_key: str | None
    started: float
    """Monotonic seconds at which the process began."""
    about: Mapping[str, Any]
    """Facts for ``/info``."""

    async def follow(self, rank: Rank) -> AsyncIterator[FromEngine]:
        """Tell the observers what the engine says of its start, and yield the rest until it ends.

        Raises:
            EngineError: it reported a failure, or died.
        """
        async for message in rank.messages():
            if isinstance(message, StageEvent):
                self.observe(message)
                continue
            if isinstance(message, Ready):
                self.on_ready(message)
            yield message


class ServeTarget(Protocol):
    """Where the engine is offered."""

    ends: bool
    """Whether it ends by itself; one that does not is refused in a sweep."""

    def claim(self, run: Run) -> None:
        """Take what the target needs, such as a port, before anything is loaded.

        Raises:
            ServeError: it cannot be had.
        """

    def run(self, session: Session) -> None:
        """Start the engine, offer it, and return when all is done.

        Raises:
            PipelineError: the engine failed or died.
        """
