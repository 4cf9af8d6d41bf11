"""Every error that a client sees, in the form of its route; those that the framework makes, too."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Scope

from sendnn_pipeline.errors import nearest
from sendnn_pipeline.frontend.errors import ErrorForm, RequestError, openai_error

CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
# Key of a request's scope: how its errors are written.
ERROR_FORM = "sendnn_pipeline.error_form"
# And with what it was refused, or failed, for the log.
ERROR = "sendnn_pipeline.error"
log = logging.getLogger(__name__)


def write_error(scope: Scope, error: RequestError) -> JSONResponse:
    """Write an error as the answer to the request of ``scope``, in the form of its route."""
    scope[ERROR] = error
    form: ErrorForm = scope.get(ERROR_FORM, openai_error)
    status, content = form(for_client(scope, error))
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    if error.code == "request_too_large":
        # The rest of it is not read.
        headers["Connection"] = "close"
    return JSONResponse(content, status, headers)


def error_of(scope: Scope) -> RequestError | None:
    """Return with what a request was refused, or failed; None where it was answered."""
    error: RequestError | None = scope.get(ERROR)
    return error


def internal_error(error: BaseException) -> RequestError:
    """Return what a client is told of a bug of ours."""
    return RequestError(500, f"internal error: {type(error).__name__}", code="internal_error")


async def on_request_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what was refused or failed."""
    assert isinstance(error, RequestError)
    return write_error(request.scope, error)


def for_client(scope: Scope, error: RequestError) -> RequestError:
    """Return the error without what only the log may have, and with the id under which it is found there."""
    if not error.detail:
        return error
    message = f"{error.message}; the server's log says why, at request {scope['request_id']}"
    return RequestError(error.status, message, param=error.param, code=error.code)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that the framework made: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    messages = {
        404: _no_route(request),
        405: f"{request.url.path} does not take {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail))
    code = CODES.get(error.status_code, "error")
    response = write_error(request.scope, RequestError(error.status_code, message, code=code))
    response.headers.update(error.headers or {})
    return response


def _no_route(request: Request) -> str:
    """Return that there is no such route, and which is meant; whether there is one depends on the run's engine."""
    path = request.url.path
    hint = nearest(path, [route.path for route in request.app.routes if isinstance(route, Route)])
    other = hint if hint.startswith("did you mean") else "/docs lists the routes of this run's engine"
    return f"no route {request.method} {path}; {other}"


async def on_crash(request: Request, error: Exception) -> JSONResponse:
    """Answer a bug of ours; the traceback goes to the log, not to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return write_error(request.scope, internal_error(error))


HANDLERS: dict[Any, Any] = {RequestError: on_request_error, HTTPException: on_http_exception}
