"""Options of ``serve=bench``."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.serving import ServeConfig


class Transport(StrEnum):
    """How requests reach the engine."""

    engine = "engine"
    http = "http"


@dataclass(frozen=True, kw_only=True)
class BenchConfig(ServeConfig):
    """The engine under a named workload."""

    target: str = "bench"
    """Registered serve target."""
    output: str | None = None
    """Folder of bench.json and bench.png; null is a new one in the temporary folder."""
    rounds: Annotated[int, Meta(ge=1)] = 3
    """How often the workload is run; the spread between rounds is shown."""
    transport: Transport = Transport.engine
    """`engine`: straight to the engine; `http`: through a server, from clients in a process of their own."""
    parallel_jobs: bool = False
    """Let a sweep run several jobs at once, although they disturb each other's times."""
