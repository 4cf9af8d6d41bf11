"""What the routes share: made once, handed to the application."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.frontend.tokenizer import TextTokenizer
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.startup import Startup
from sendnn_pipeline.server.recent import RecentErrors


@dataclass(frozen=True)
class ServerState:
    """The parts behind the routes."""

    front: Frontend
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None
    about: Mapping[str, Any]
    created: int
    """Unix time in seconds."""
    endpoints: Mapping[str, Endpoint[Any]]
    """What can be asked of the run's engine, by path."""
    aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="aside"))
    """What takes long, one after the other, beside the event loop."""
    recent: RecentErrors = field(default_factory=RecentErrors)


def server_state(session: Session, client: EngineClient, tokenizer: TextTokenizer) -> ServerState:
    """Return the parts of a run that is offered."""
    front = Frontend(session.run, client, tokenizer)
    return ServerState(
        front,
        session.metrics,
        session.startup,
        session.perf_log,
        session.about,
        int(time.time()),
        session.endpoints,
    )


def state_of(request: Request) -> ServerState:
    """Return the parts behind the application that ``request`` reached."""
    state: ServerState = request.app.state.server
    return state
