"""What a key accepts, in words for users: the choices of an enum, else what msgspec expected."""

import re
from enum import EnumType
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

WORDS = {"array": "list", "object": "mapping", "str": "text"}


def accepted(kind: Any, message: str = "") -> str:
    """Return what a type accepts, such as ``int >= 1`` or ``load, compile, warmup or serve``.

    Args:
        kind: the type, with its bounds.
        message: msgspec's, on a value that is not of the type; empty where something else refused the value.
    """
    if get_origin(without_none(kind)) is dict:
        return f"mapping of {accepted(get_args(without_none(kind))[1])}"
    choices = _choices(kind)
    if len(choices) > 1:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    message = message or _refusal(kind)
    words = (
        re.split(", got | - at ", message)[0].removeprefix("Expected ").replace(" | null", "").replace("`", " ").split()
    )
    return " ".join(WORDS.get(word, word) for word in words)


def _refusal(kind: Any) -> str:
    """Return what msgspec says of a value that is of no type."""
    try:
        msgspec.convert(object(), kind)
    except msgspec.ValidationError as error:
        return str(error)
    return "any value"


def without_none(kind: Any) -> Any:
    """Return the type without bounds and without None."""
    if get_origin(kind) is Annotated:
        return without_none(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        others = [part for part in get_args(kind) if part is not type(None)]
        return without_none(others[0]) if len(others) == 1 else kind
    return kind


def _choices(kind: Any) -> list[str]:
    """Return the names of an enum, or of that in a list."""
    plain = without_none(kind)
    if get_origin(plain) is list:
        return _choices(get_args(plain)[0])
    return list(plain.__members__) if isinstance(plain, EnumType) else []
