"""Every error that a client sees, in OpenAI's envelope; those that the framework makes, too."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
log = logging.getLogger("sendnn_pipeline.server")


class ApiError(Exception):
    """An answer other than 200.

    Args:
        status: HTTP status.
        message: what is wrong, with the numbers.
        param: the field of the request, such as ``input[3]``.
        code: a stable slug.
        retry_after_seconds: when to try again, for 429 and 503.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_seconds = retry_after_seconds


def error_response(error: ApiError) -> JSONResponse:
    """Write an error in the envelope."""
    kind = TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    return JSONResponse(body, error.status, headers)


async def on_api_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer one of our own errors."""
    assert isinstance(error, ApiError)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that the framework made: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    messages = {
        404: f"no route {request.method} {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail))
    response = error_response(ApiError(error.status_code, message, code=CODES.get(error.status_code, "error")))
    response.headers.update(error.headers or {})
    return response


async def on_crash(request: Request, error: Exception) -> JSONResponse:
    """Answer a bug of ours; the traceback goes to the log, not to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(ApiError(500, f"internal error: {type(error).__name__}", code="internal_error"))


HANDLERS: dict[Any, Any] = {ApiError: on_api_error, HTTPException: on_http_exception, Exception: on_crash}
