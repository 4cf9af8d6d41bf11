"""What a request is refused with, over HTTP, in a batch file and in Python alike."""

import re
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


# Of a message, which may repeat what a client sent: a name, a path, a value of any length.
MAX_MESSAGE_LENGTH = 1000


class RequestError(Exception):
    """An answer other than 200.

    Args:
        status: HTTP status.
        message: what is wrong, with the numbers; a long one loses its middle.
        param: the field of the request, such as ``input[3]``.
        code: a stable slug.
        retry_after_seconds: when to try again, for 429 and 503.
        detail: for the log alone, such as a library's own words.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str,
        retry_after_seconds: int | None = None,
        detail: str = "",
    ) -> None:
        self.status, self.message, self.param, self.code = status, _shorten(message), param, code
        super().__init__(self.message)
        self.retry_after_seconds, self.detail = retry_after_seconds, detail


def _shorten(message: str) -> str:
    if len(message) <= MAX_MESSAGE_LENGTH:
        return message
    half = MAX_MESSAGE_LENGTH // 2
    return f"{message[:half]} … {message[-half:]}"


def wrong_body(error: msgspec.ValidationError, within: str = "") -> RequestError:
    """Return the refusal of a body that is not of the shape of its route, naming the field.

    Args:
        error: says what is wrong, and where.
        within: the field of the body that was read; empty where it is all of it.
    """
    message, _, path = str(error).partition(" - at `$")
    field = re.search(r"field `(\w+)`", message)
    path = path.rstrip("`").lstrip(".").replace("[...]", "")
    param = ".".join(filter(None, (within, path))) or (field[1] if field else None)
    return RequestError(400, f"{param or 'the body'}: {message}", param=param, code="invalid_value")


ErrorForm = Callable[[RequestError], tuple[int, Any]]
"""Writes an error as the clients of a route know it: status and JSON."""


class Problem(TypedDict):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """OpenAI's envelope."""

    error: Problem


def openai_error(error: RequestError) -> tuple[int, OpenAIError]:
    """Write an error in OpenAI's envelope."""
    kind = TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    problem = Problem(message=error.message, type=kind, param=error.param, code=error.code)
    return error.status, {"error": problem}
