"""Liveness, readiness and progress: three different answers, all quick, none through the engine."""

from typing import Any, NotRequired, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse

from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.server.api_route import ApiRoute
from sendnn_pipeline.server.state import state_of

PROBES = ("/live", "/ready", "/startup", "/health", "/ping")


class Status(TypedDict):
    """The answer of a probe."""

    status: str
    reason: NotRequired[str]


def why_not_ready(client: EngineClient) -> str | None:
    """Return why no work is taken, or none is done; None when all is well."""
    why = client.unavailable()
    return client.stalled() if why is None else why


async def live(_request: Request) -> JSONResponse:
    """Say that the process answers."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> JSONResponse:
    """Say whether work is taken: warm, not draining, and the engine moves."""
    why = why_not_ready(state_of(request).front.client)
    if why is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not ready", "reason": why}, 503, {"Retry-After": "5"})


async def startup(request: Request) -> JSONResponse:
    """Say how far the start is."""
    state = state_of(request)
    progress: dict[str, Any] = state.startup.progress()
    done = state.front.client.ready is not None
    return JSONResponse({"status": "started" if done else "starting", **progress}, 200 if done else 503)


routes = [
    ApiRoute("/live", live, answer=Status),
    ApiRoute("/ready", ready, answer=Status, errors=(Status,)),
    ApiRoute("/startup", startup, answer=dict[str, Any], errors=(dict[str, Any],)),
    ApiRoute("/health", ready, answer=Status, errors=(Status,)),
    # As Amazon SageMaker asks, and as vLLM takes it.
    ApiRoute("/ping", ready, methods=["GET", "POST"], answer=Status, errors=(Status,)),
]
