"""What a request is refused for, in the words of its fields."""

from collections.abc import Iterable, Sequence
from typing import Any

from sendnn_pipeline.engines.vocabulary import why_outside
from sendnn_pipeline.frontend.errors import RequestError


def invalid(param: str, message: str) -> RequestError:
    """Return the error for a field whose value is out of range; ``message`` follows its name."""
    return RequestError(400, f"{param} {message}", param=param, code="invalid_value")


def unsupported(param: str, message: str) -> RequestError:
    """Return the error for a field that asks for what there is not; ``message`` follows its name."""
    return RequestError(400, f"{param} {message}", param=param, code="unsupported_value")


def empty(param: str) -> RequestError:
    """Return the error for a field that has nothing in it."""
    return RequestError(400, f"{param} is empty", param=param, code="empty_input")


def too_long(param: str, message: str) -> RequestError:
    """Return the error for what is longer than the context."""
    return RequestError(400, message, param=param, code="context_length_exceeded")


def check_unset(body: Any, names: Iterable[str]) -> None:
    """Refuse fields that are set though nothing here does what they ask for.

    Raises:
        RequestError: 400, naming the first one.
    """
    for name in names:
        if getattr(body, name):
            raise unsupported(name, "is not implemented")


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    """Refuse ids that the vocabulary does not have.

    Raises:
        RequestError: 400, naming the first one.
    """
    if wrong := why_outside(ids, vocab_size):
        raise invalid(param, wrong)


def check_count(items: Sequence[Any], most: int, param: str) -> None:
    """Refuse too many items.

    Raises:
        RequestError: 400.
    """
    if len(items) > most:
        message = f"{param} has {len(items)} items and {most} is the most"
        raise RequestError(400, message, param=param, code="too_many_items")
