"""POST /v1/embeddings."""

import asyncio
import base64
import time
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.inputs import token_ids_of, type_input
from sendnn_pipeline.server.state import ServerState, state_of

T = TypeVar("T")
CLIENT_GONE = 499


class EmbeddingRequest(msgspec.Struct):
    """The body of the request."""

    input: type_input
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None


async def create_embeddings(request: Request) -> Response:
    """Answer with one vector for every input, in the order of the inputs."""
    arrived = time.monotonic()
    state = state_of(request)
    reason = "error"
    record = {"request_id": request.scope["request_id"]}
    try:
        body = await read_body(request, EmbeddingRequest, state.run.config.serve.max_body_bytes)
        _check(state, body)
        deadline = arrived + _timeout_seconds(state, request)
        parsed = time.monotonic()
        state.engine.admit(1)
        work = _compute(state, body, deadline)
        ids, pending = await unless_client_leaves(request, work)
        response = _response(state, body, ids, pending)
        _account(state, record, len(ids), pending, (arrived, parsed))
        reason = "stop"
        return response
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


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
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


async def _compute(state: ServerState, body: EmbeddingRequest, deadline: float) -> tuple[list[list[int]], Pending]:
    ids = await token_ids_of(state, body.input, body.truncate_prompt_tokens)
    return ids, await state.engine.embed(ids, deadline)


def _check(state: ServerState, body: EmbeddingRequest) -> None:
    check_model(state, body.model)
    size = state.run.model.hidden_size
    if body.dimensions is None or body.dimensions == size:
        return
    if not 1 <= body.dimensions < size:
        raise ApiError(
            400, f"dimensions={body.dimensions} must be from 1 to {size}", param="dimensions", code="invalid_value"
        )
    if not state.run.config.model.matryoshka:
        raise ApiError(
            400,
            f"{state.run.served_name} is not trained for shorter vectors, so dimensions must be {size} "
            "(model.matryoshka=true overrides)",
            param="dimensions",
            code="unsupported_value",
        )


def check_model(state: ServerState, name: str | None) -> None:
    """Refuse a model that is not the one served.

    Raises:
        ApiError: 404.
    """
    if name is not None and name != state.run.served_name:
        raise ApiError(
            404, f"no model {name}; this server has {state.run.served_name}", param="model", code="model_not_found"
        )


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


def _response(state: ServerState, body: EmbeddingRequest, ids: list[list[int]], pending: Pending) -> Response:
    vectors = pending.vectors
    assert vectors is not None
    if body.dimensions is not None and body.dimensions < vectors.shape[1]:
        vectors = shortened(vectors, body.dimensions)
    vectors = np.ascontiguousarray(vectors)
    encode: Any = _base64 if body.encoding_format == "base64" else (lambda row: row)
    num_tokens = sum(map(len, ids))
    usage: dict[str, Any] = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    if state.run.config.metrics.request_details:
        usage["queued_time_seconds"] = pending.started - pending.enqueued
        usage["prefill_time_seconds"] = pending.finished - pending.started
    content = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(row)} for index, row in enumerate(vectors)
        ],
        "model": state.run.served_name,
        "usage": usage,
    }
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _base64(row: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii")


def shortened(vectors: npt.NDArray[np.float32], dimensions: int) -> npt.NDArray[np.float32]:
    """Cut ``[rows, dimensions]`` and scale every row to length one again."""
    cut = vectors[:, :dimensions]
    norms = np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled: npt.NDArray[np.float32] = cut / norms
    return scaled


def _account(
    state: ServerState, record: dict[str, str], num_texts: int, pending: Pending, began: tuple[float, float]
) -> None:
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
            "num_texts": num_texts,
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


routes = [Route("/v1/embeddings", create_embeddings, methods=["POST"])]
