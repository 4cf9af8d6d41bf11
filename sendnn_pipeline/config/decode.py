"""How text, such as a variable's, becomes a value of a key's own type."""

import re
from typing import Any, get_args, get_origin

import msgspec
import yaml

from sendnn_pipeline.config.accepted import accepted, without_none

GROUP = "group"
"""The type of a key that chooses a group's option."""
WHOLE = re.compile(r"[+-]?[0-9]+")


def decode(text: str, kind: Any) -> Any:
    """Return the value that ``text`` stands for.

    Args:
        text: as it stands; items of lists are separated by commas, in brackets or without.
        kind: the key's type with its bounds, or ``GROUP``.

    Raises:
        ValueError: it does not; the message says what is accepted.
    """
    if kind == GROUP:
        if not re.fullmatch(r"[A-Za-z_][\w.-]*", text):
            raise ValueError("a name")
        return text
    if "${" in text:
        raise ValueError("plain text without ${")
    if kind is Any:
        return _items(text) if "," in text or _is_bracketed(text) else _guess(text)
    plain = without_none(kind)
    if plain is bool and text.lower() not in ("0", "1", "true", "false"):
        raise ValueError("0, 1, true or false")
    if plain is int:
        if not WHOLE.fullmatch(text):
            raise ValueError("a whole number")
        return _convert(int(text), kind)
    if get_origin(plain) is list:
        return _decode_list(text, kind, plain)
    return _convert(text, kind)


def _decode_list(text: str, kind: Any, plain: Any) -> Any:
    parts = _items(text)
    (item,) = get_args(plain)
    if without_none(item) is int and not all(map(WHOLE.fullmatch, parts)):
        raise ValueError("whole numbers separated by commas, such as 64,128")
    if "" in parts:
        raise ValueError(f"{accepted(kind)} separated by commas, none of it empty")
    return _convert(parts, kind)


def _is_bracketed(text: str) -> bool:
    return text.strip().startswith("[") and text.strip().endswith("]")


def _items(text: str) -> list[str]:
    """Return the items of a list, as a command line has them in brackets, or without those."""
    if not _is_bracketed(text):
        return [part.strip() for part in text.split(",")]
    try:
        # Scalars stay the characters that they are.
        items = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("a list such as [64,128]")
    return items


def _guess(text: str) -> Any:
    """Return a number or a boolean where the text is one, as on the command line: no type says."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return msgspec.convert(text, int | float, strict=False)
    except msgspec.ValidationError:
        return text


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=False))
    except msgspec.ValidationError as error:
        raise ValueError(accepted(kind, str(error))) from None


def is_mapping(kind: Any) -> bool:
    """Return whether a key is a mapping: those are for files, since no variable writes one."""
    return get_origin(without_none(kind)) is dict
