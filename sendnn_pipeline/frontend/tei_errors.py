"""How text-embeddings-inference writes errors: ``error`` and ``error_type``, with statuses of its own."""

from typing import TypedDict

from sendnn_pipeline.frontend.errors import ErrorForm, RequestError

OF_CODE = {
    "context_length_exceeded": (413, "Validation"),
    "empty_input": (400, "Empty"),
    "too_many_items": (413, "Validation"),
    "unsupported_task": (424, "Backend"),
    "engine_failed": (424, "Backend"),
}
OF_STATUS = {400: (422, "Validation"), 429: (429, "Overloaded"), 503: (503, "Unhealthy")}


class TeiError(TypedDict):
    """Their envelope."""

    error: str
    error_type: str


def tei_error(error: RequestError) -> tuple[int, TeiError]:
    """Write an error as ``error`` and ``error_type``."""
    status, kind = OF_CODE.get(error.code) or OF_STATUS.get(error.status, (error.status, "Validation"))
    return status, {"error": error.message, "error_type": kind}


def always_tei(_body: object) -> ErrorForm:
    """Return the form, for routes that have no other."""
    return tei_error
