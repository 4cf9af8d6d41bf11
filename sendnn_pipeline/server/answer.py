"""From an endpoint to a route: body, admission, a client that leaves, whole answers and streams, accounting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server.account import GONE, Account
from sendnn_pipeline.server.api_route import ApiRoute
from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.errors import ERROR, ERROR_FORM, for_client, internal_error
from sendnn_pipeline.server.pings import PING, with_pings
from sendnn_pipeline.server.state import ServerState, state_of

T = TypeVar("T")
EVENT_STREAM = "text/event-stream"
# Proxies must neither cache nor buffer it; nginx buffers by default.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
DONE = b"data: [DONE]\n\n"


def route(path: str, endpoint: Endpoint[Any]) -> ApiRoute:
    """Return the route of an endpoint at ``path``."""

    async def handle(request: Request) -> Response:
        return await answer(request, endpoint)

    return ApiRoute(
        path,
        handle,
        methods=["POST"],
        body=endpoint.body,
        answer=endpoint.answer,
        errors=endpoint.errors,
        streams=endpoint.stream is not None,
        summary=endpoint.summary or f"Ask {path}.",
    )


async def answer(request: Request, endpoint: Endpoint[Any]) -> Response:
    """Answer one request.

    Raises:
        RequestError: the request is refused, or failed.
    """
    state = state_of(request)
    account = Account(state, request.scope["request_id"], request.scope["path"])
    request.scope[ERROR_FORM] = endpoint.error_form(None)
    try:
        body = await read_body(request, endpoint.body, state.front.run.config.serve.max_body_bytes)
        request.scope[ERROR_FORM] = endpoint.error_form(body)
        account.parsed()
        deadline = account.arrived + _timeout_seconds(state, request)
        if endpoint.streams(body):
            return await _begin_stream(request, endpoint, body, deadline, account)
        content, call = await unless_client_leaves(request, state.front.answer(endpoint, body, deadline))
        encoded = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        account.finish(call)
        return Response(encoded, media_type="application/json")
    except ClientGoneError:
        request.scope[ERROR] = GONE
        account.end(GONE, request.scope[ERROR_FORM])
        return Response(status_code=GONE.status)
    except BaseException as error:
        account.end(_end_of(error), request.scope[ERROR_FORM])
        raise


async def _begin_stream(
    request: Request, endpoint: Endpoint[Any], body: Any, deadline: float, account: Account
) -> Response:
    """Open the call, so that what is refused has a status of its own, then stream its parts."""
    front = state_of(request).front
    assert endpoint.stream is not None
    stack = AsyncExitStack()
    call = await unless_client_leaves(request, stack.enter_async_context(front.ask(endpoint, body, deadline)))
    events = endpoint.stream(front, body, call)
    content = _stream(events, call, stack, account, request)
    return StreamingResponse(content, media_type=EVENT_STREAM, headers=STREAM_HEADERS)


async def _stream(
    events: AsyncIterator[Any], call: Call, stack: AsyncExitStack, account: Account, request: Request
) -> AsyncIterator[bytes]:
    failure: RequestError | None = GONE
    try:
        async with stack, aclosing(with_pings(events)) as lively:
            async for event in lively:
                yield PING if event is None else _event(event)
            yield DONE
        account.finish(call)
        failure = None
    except RequestError as error:
        # The status is sent already: the error is the last event.
        failure = error
        _, content = request.scope[ERROR_FORM](for_client(request.scope, error))
        yield _event(content)
        yield DONE
    finally:
        request.scope[ERROR] = failure
        if failure is not None:
            account.end(failure, request.scope[ERROR_FORM])


def _end_of(error: BaseException) -> RequestError:
    """Return what ended a request: its refusal, a client that left, or a bug of ours."""
    if isinstance(error, RequestError):
        return error
    return GONE if isinstance(error, asyncio.CancelledError) else internal_error(error)


def _event(content: Any) -> bytes:
    return b"data: " + orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"


class ClientGoneError(Exception):
    """The client left before its answer was there."""


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Await ``work``, but cancel it when the client disconnects.

    Raises:
        ClientGoneError: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for waiting in (task, gone):
            waiting.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def in_time(request: Request, work: Awaitable[T]) -> T:
    """Await ``work`` of a route without an engine, for as long as the request may take and its client stays.

    Raises:
        RequestError: the time is over, or the client left.
    """
    try:
        async with asyncio.timeout(_timeout_seconds(state_of(request), request)):
            return await unless_client_leaves(request, work)
    except TimeoutError:
        raise RequestError(504, "the deadline passed before the answer was there", code="deadline_exceeded") from None
    except ClientGoneError:
        raise GONE from None


def _timeout_seconds(state: ServerState, request: Request) -> float:
    longest = state.front.run.config.serve.request_timeout_seconds
    text = request.headers.get("x-request-timeout-seconds")
    if text is None:
        return longest
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise RequestError(
            400,
            f"X-Request-Timeout-Seconds: {text} is not a positive number",
            param="X-Request-Timeout-Seconds",
            code="invalid_value",
        )
    return min(seconds, longest)
