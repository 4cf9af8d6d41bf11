"""What every request to the engine goes through: body, admission, computing, a client that leaves, accounting."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.state import ServerState, state_of

T = TypeVar("T")
Body = TypeVar("Body")
CLIENT_GONE = 499


@dataclass(frozen=True)
class Endpoint(Generic[Body]):
    """What one route does, apart from HTTP: batch files ask for the same by its path."""

    shape: type[Body]
    """Of a request's body."""
    compute: Callable[[ServerState, Body, float], Coroutine[Any, Any, Pending]]
    """Checks a body, makes token ids of it, and has the engine compute them by a deadline in monotonic seconds."""
    render: Callable[[ServerState, Body, Pending], Any]
    """Makes what is written as JSON of what the engine gave."""

    def route(self, path: str) -> Route:
        """Return the route at ``path``."""

        async def handle(request: Request) -> Response:
            return await answer(request, self)

        return Route(path, handle, methods=["POST"])


async def answer(request: Request, endpoint: Endpoint[Body]) -> Response:
    """Answer one request.

    Raises:
        ApiError: the request is refused, or failed.
    """
    arrived = time.monotonic()
    state = state_of(request)
    reason = "error"
    record = {"request_id": request.scope["request_id"]}
    try:
        body = await read_body(request, endpoint.shape, state.run.config.serve.max_body_bytes)
        deadline = arrived + _timeout_seconds(state, request)
        parsed = time.monotonic()
        state.engine.admit(1)
        pending = await unless_client_leaves(request, endpoint.compute(state, body, deadline))
        content = orjson.dumps(endpoint.render(state, body, pending), option=orjson.OPT_SERIALIZE_NUMPY)
        _account(state, record, pending, (arrived, parsed))
        reason = "stop"
        return Response(content, media_type="application/json")
    except (asyncio.CancelledError, ClientGoneError):
        reason = "abort"
        return Response(status_code=CLIENT_GONE)
    finally:
        state.metrics.finished(reason)
        if reason != "stop" and state.perf_log:
            state.perf_log.request(
                {**record, "finish_reason": reason, "e2e_latency_seconds": time.monotonic() - arrived}
            )


class ClientGoneError(Exception):
    """The client left before its answer was there."""


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Await ``work``, but cancel it when the client disconnects.

    Raises:
        ClientGoneError: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for waiting in (task, gone):
            waiting.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_model(state: ServerState, name: str | None) -> None:
    """Refuse a model that is not the one served.

    Raises:
        ApiError: 404.
    """
    if name is not None and name != state.run.served_name:
        raise ApiError(
            404, f"no model {name}; this server has {state.run.served_name}", param="model", code="model_not_found"
        )


def usage_of(state: ServerState, pending: Pending) -> dict[str, Any]:
    """Return the usage object: real tokens, and timings where they are asked for."""
    usage: dict[str, Any] = {"prompt_tokens": pending.num_tokens, "total_tokens": pending.num_tokens}
    if state.run.config.metrics.request_details:
        usage["queued_time_seconds"] = pending.started - pending.enqueued
        usage["prefill_time_seconds"] = pending.finished - pending.started
    return usage


def _timeout_seconds(state: ServerState, request: Request) -> float:
    most = state.run.config.serve.request_timeout_seconds
    text = request.headers.get("x-request-timeout-seconds")
    if text is None:
        return most
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ApiError(
            400,
            f"X-Request-Timeout-Seconds: {text} is no positive number",
            param="X-Request-Timeout-Seconds",
            code="invalid_value",
        )
    return min(seconds, most)


def _account(state: ServerState, record: dict[str, str], pending: Pending, began: tuple[float, float]) -> None:
    (arrived, parsed), answered = began, time.monotonic()
    metrics, num_tokens = state.metrics, pending.num_tokens
    queued, inference = pending.started - pending.enqueued, pending.finished - pending.started
    metrics.e2e.observe(answered - arrived)
    metrics.queue.observe(queued)
    metrics.inference.observe(inference)
    metrics.prefill.observe(inference)
    metrics.request_tokens.observe(num_tokens)
    if state.perf_log is None:
        return
    state.perf_log.request(
        {
            **record,
            "finish_reason": "stop",
            "num_prompt_tokens": num_tokens,
            "num_texts": pending.num_items,
            "programs": sorted(pending.programs),
            "padding_tokens": pending.padding,
            # The parts follow each other without a gap: their sum is the whole.
            "receive_time_seconds": parsed - arrived,
            "tokenize_time_seconds": pending.submitted - parsed,
            "to_engine_time_seconds": pending.enqueued - pending.submitted,
            "queued_time_seconds": queued,
            "inference_time_seconds": inference,
            "from_engine_time_seconds": pending.received - pending.finished,
            "serialize_time_seconds": answered - pending.received,
            "e2e_latency_seconds": answered - arrived,
            # A pooling request is all prefill.
            "prefill_time_seconds": inference,
        }
    )
