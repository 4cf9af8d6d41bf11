"""What a request is refused with, over HTTP, in a batch file and in Python alike."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """An answer other than 200.

    Args:
        status: HTTP status.
        message: what is wrong, with the numbers.
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
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_seconds, self.detail = retry_after_seconds, detail


def wrong_body(error: msgspec.ValidationError) -> RequestError:
    """Return the refusal of a body that is not of the shape of its route, naming the field."""
    message, _, path = str(error).partition(" - at `$")
    field = re.search(r"field `(\w+)`", message)
    param = path.rstrip("`").lstrip(".").replace("[...]", "") or (field[1] if field else None)
    return RequestError(400, f"{param or 'the body'}: {message}", param=param, code="invalid_value")


ErrorForm = Callable[[RequestError], tuple[int, dict[str, Any]]]
"""Writes an error as the clients of a route know it: status and JSON."""


def openai_error(error: RequestError) -> tuple[int, dict[str, Any]]:
    """Write an error in OpenAI's envelope."""
    kind = TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return error.status, {"error": body}
