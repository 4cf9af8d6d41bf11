"""How text-embeddings-inference writes truncation and errors."""

from typing import Any, Literal

from sendnn_pipeline.frontend.errors import ErrorForm, RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.truncation import Side, Truncation

Direction = Literal["Left", "Right", "left", "right"]

OF_CODE = {
    "context_length_exceeded": (413, "Validation"),
    "empty_input": (400, "Empty"),
    "too_many_items": (413, "Validation"),
    "unsupported_task": (424, "Backend"),
    "engine_failed": (424, "Backend"),
}
OF_STATUS = {400: (422, "Validation"), 429: (429, "Overloaded"), 503: (503, "Unhealthy")}


def tei_error(error: RequestError) -> tuple[int, dict[str, Any]]:
    """Write an error as ``error`` and ``error_type``."""
    status, kind = OF_CODE.get(error.code) or OF_STATUS.get(error.status, (error.status, "Validation"))
    return status, {"error": error.message, "error_type": kind}


def always_tei(_body: object) -> ErrorForm:
    """Return the form, for routes that have no other."""
    return tei_error


def tei_truncation(front: Frontend, truncate: bool, direction: Direction) -> Truncation:
    """Return how much of the texts is read."""
    return Truncation(whole=front.max_input_tokens if truncate else None, side=side_of(direction))


def side_of(direction: Direction) -> Side:
    """Return the side that is cut."""
    return "left" if direction.lower() == "left" else "right"
