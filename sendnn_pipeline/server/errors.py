"""Every error that a client sees, in OpenAI's envelope; those that the framework makes, too."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from sendnn_pipeline.config.resolve import Run

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
# Key of a request's scope: its errors are written in text-embeddings-inference's form.
TEI = "sendnn_pipeline.tei"
TEI_OF_CODE = {
    "context_length_exceeded": (413, "Validation"),
    "empty_input": (400, "Empty"),
    "too_many_items": (413, "Validation"),
    "unsupported_task": (424, "Backend"),
    "engine_failed": (424, "Backend"),
}
TEI_OF_STATUS = {400: (422, "Validation"), 429: (429, "Overloaded"), 503: (503, "Unhealthy")}
TASK_GIVES = {"embed": "embeddings", "classify": "labels or scores of pairs"}
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


def check_task(run: Run, task: str, route: str) -> None:
    """Refuse what the model cannot do.

    Raises:
        ApiError: 400.
    """
    held = run.config.engine.task
    if held != task:
        wanted = TASK_GIVES.get(task, task)
        raise ApiError(
            400,
            f"{run.served_name} gives {TASK_GIVES[held]}, and {route} needs a model of {wanted}",
            code="unsupported_task",
        )


def error_response(error: ApiError) -> JSONResponse:
    """Write an error in the envelope."""
    kind = TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    return JSONResponse(body, error.status, headers)


def tei_response(error: ApiError) -> JSONResponse:
    """Write an error as text-embeddings-inference does: ``error`` and ``error_type``."""
    status, kind = TEI_OF_CODE.get(error.code) or TEI_OF_STATUS.get(error.status, (error.status, "Validation"))
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    return JSONResponse({"error": error.message, "error_type": kind}, status, headers)


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Answer one of our own errors."""
    assert isinstance(error, ApiError)
    return tei_response(error) if request.scope.get(TEI) else error_response(error)


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
