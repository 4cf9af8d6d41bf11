"""From JSON to the body of a route: one rule for every field, whichever way a body comes."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import inspect

from sendnn_pipeline.frontend.errors import RequestError, wrong_body

T = TypeVar("T")
# What a backslash of JSON begins; `half` is one of two that stand for a letter past 65,535, such as an emoji.
ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# What crosses into code that counts in 32 bits.
MOST = 2**31 - 1
Count = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
"""A number of tokens, dimensions or the like."""
CountOrAll = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
"""The same; 0 is all."""
CountOrFitting = Annotated[int, msgspec.Meta(ge=-1, le=MOST)]
"""A number of tokens; -1 is as many as fit."""


def decode_body(raw: bytes, shape: type[T]) -> T:
    """Read a JSON body as ``shape``. Null leaves a field unset: many clients write all that they know of.

    Raises:
        RequestError: 400, it is not JSON or not of that shape, naming the field.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        # Few bodies have a null, and only those are worth a second look.
        if b"null" not in raw:
            raise wrong_body(error) from None
        return convert_body(msgspec.json.decode(raw), shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {why_no_json(raw, error)}", code="invalid_json") from None


def why_no_json(raw: bytes, error: Exception) -> str:
    """Return the parser's reason; where a text was cut within a letter, that one, which the parser calls truncated."""
    half = next((found for found in ESCAPE.finditer(raw) if found["half"]), None)
    if half is None:
        return str(error)
    return f"half of a letter, {half[0].decode()}, at byte {half.start()}; cut texts between letters"


def convert_body(content: Any, shape: type[T]) -> T:
    """Read JSON that is parsed already, such as a batch file's, as ``decode_body`` does.

    Raises:
        RequestError: 400, it is not of that shape, naming the field.
    """
    try:
        try:
            return msgspec.convert(content, shape)
        except msgspec.ValidationError:
            return msgspec.convert(_without_nulls(content, inspect.type_info(shape)), shape)
    except msgspec.ValidationError as error:
        raise wrong_body(error) from None
    except RecursionError:
        raise RequestError(400, "the body is nested too deeply", code="invalid_json") from None


def check_beside(body: msgspec.Struct, name: str, others: Iterable[str]) -> None:
    """Refuse fields that are set, and would be ignored because ``name`` is.

    Raises:
        RequestError: 400, naming both.
    """
    unset = {field.name: field.default for field in msgspec.structs.fields(body)}
    for other in others:
        if getattr(body, other) != unset[other]:
            message = f"{other} is not for a request with {name}; send one of them"
            raise RequestError(400, message, param=other, code="invalid_value")


def _without_nulls(content: Any, kind: inspect.Type) -> Any:
    """Take fields that are null out of what has fields; in lists, and in JSON of any form, null is a value."""
    for one in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if isinstance(content, list) and isinstance(one, inspect.ListType):
            return [_without_nulls(item, one.item_type) for item in content]
        if isinstance(content, dict) and isinstance(one, inspect.StructType):
            kinds = {field.encode_name: field.type for field in one.fields}
            return {
                name: _without_nulls(value, kinds.get(name, inspect.AnyType()))
                for name, value in content.items()
                if value is not None
            }
        if (
            isinstance(content, dict)
            and isinstance(one, inspect.DictType)
            and not isinstance(one.value_type, inspect.AnyType)
        ):
            return {name: _without_nulls(value, one.value_type) for name, value in content.items() if value is not None}
    return content
