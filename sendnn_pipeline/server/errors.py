"""Every error that a client sees, in the form of its route; those that the framework makes, too."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from sendnn_pipeline.frontend.errors import ErrorForm, RequestError, openai_error
from sendnn_pipeline.server.state import state_of

CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
# Key of a request's scope: how its errors are written.
ERROR_FORM = "sendnn_pipeline.error_form"
log = logging.getLogger("sendnn_pipeline.server")


def write_error(error: RequestError, form: ErrorForm = openai_error) -> JSONResponse:
    """Write an error as an answer."""
    status, content = form(error)
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    if error.code == "request_too_large":
        # The rest of it is not read.
        headers["Connection"] = "close"
    return JSONResponse(content, status, headers)


async def on_request_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what was refused or failed."""
    assert isinstance(error, RequestError)
    _note(request, error)
    return write_error(for_client(request, error), request.scope.get(ERROR_FORM, openai_error))


def for_client(request: Request, error: RequestError) -> RequestError:
    """Log what only the log may have, and return the error with the id under which it is found there."""
    if not error.detail:
        return error
    request_id = request.scope["request_id"]
    log.error("request %s: %s: %s", request_id, error.message, error.detail)
    message = f"{error.message}; the server's log says why, at request {request_id}"
    return RequestError(error.status, message, param=error.param, code=error.code)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that the framework made: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    messages = {
        404: f"no route {request.method} {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail))
    refusal = RequestError(error.status_code, message, code=CODES.get(error.status_code, "error"))
    _note(request, refusal)
    response = write_error(refusal)
    response.headers.update(error.headers or {})
    return response


async def on_crash(request: Request, error: Exception) -> JSONResponse:
    """Answer a bug of ours; the traceback goes to the log, not to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    failure = RequestError(500, f"internal error: {type(error).__name__}", code="internal_error")
    _note(request, failure)
    return write_error(failure)


def _note(request: Request, error: RequestError) -> None:
    state_of(request).recent.add(request.url.path, error)


HANDLERS: dict[Any, Any] = {RequestError: on_request_error, HTTPException: on_http_exception, Exception: on_crash}
