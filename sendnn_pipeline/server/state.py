"""What the routes share: made once, handed to the application."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.target import Session
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.startup import Startup
from sendnn_pipeline.server.engine_client import EngineClient
from sendnn_pipeline.server.tokenizer import TextTokenizer


@dataclass(frozen=True)
class ServerState:
    """The parts behind the routes."""

    run: Run
    engine: EngineClient
    tokenizer: TextTokenizer
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None
    about: Mapping[str, Any]
    created: int

    def now(self) -> int:
        """Return Unix time in seconds, for ``created``."""
        return int(time.time())

    @property
    def longest(self) -> int:
        """The longest input in tokens that some Program takes."""
        return max(shape.prompt_len for shape in self.run.shapes)


def state_over(session: Session, engine: EngineClient, tokenizer: TextTokenizer) -> ServerState:
    """Return the parts of a run that is offered."""
    about = (session.metrics, session.startup, session.perf_log, session.about, int(time.time()))
    return ServerState(session.run, engine, tokenizer, *about)


def state_of(request: Request) -> ServerState:
    """Return the parts behind the application that ``request`` reached."""
    state: ServerState = request.app.state.server
    return state
