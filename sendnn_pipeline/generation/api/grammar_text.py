"""Grammars as llguidance writes them, of what a request brings. The library itself is not needed for that."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.generation.api.refusals import check_count, empty, invalid
from sendnn_pipeline.generation.grammar.limits import LARK_OR_GBNF

MAX_CHARS, MAX_DEPTH, MAX_CHOICES = 2**17, 64, 1024
# What a pretty-printed object has between two of its tokens; without an end to it, some models write it for ever.
WHITESPACE = r"\n[ \t]{0,64}| "


@dataclass(frozen=True)
class Grammar:
    """What an answer has to be."""

    param: str
    """The field that asks for it."""
    text: str
    """A JSON object in the form that llguidance reads."""


def json_grammar(param: str, schema: dict[str, Any] | bool, whitespace: str | None = None) -> Grammar:
    """Return the grammar of JSON that a schema describes.

    Args:
        param: the field it comes from.
        schema: of draft 2020-12, as far as llguidance has it.
        whitespace: a pattern of what may stand between tokens, empty for nothing; None is a bounded default.

    Raises:
        RequestError: 400, it is too large or nested too deeply.
    """
    _check_depth(param, schema)
    schema = {} if schema is True else {"not": {}} if schema is False else schema
    options = {"whitespace_pattern": WHITESPACE if whitespace is None else whitespace}
    return _grammar(param, {"json_schema": {"x-guidance": options, **schema}})


def regex_grammar(param: str, regex: str) -> Grammar:
    """Return the grammar of a text that matches a pattern as a whole.

    Raises:
        RequestError: 400, it is too large or empty.
    """
    if not regex:
        raise empty(param)
    # A slash is what ends a pattern there.
    escaped = re.sub(
        r"\\.|/|\n", lambda found: {"/": r"\/", "\n": r"\n"}.get(found[0], found[0]), regex, flags=re.DOTALL
    )
    return _grammar(param, {"lark_grammar": f"start: /{escaped}/"})


def choice_grammar(param: str, choices: Sequence[str]) -> Grammar:
    """Return the grammar of one of several texts.

    Raises:
        RequestError: 400, there are too many, none, or an empty one.
    """
    check_count(choices, MAX_CHOICES, param)
    if not choices:
        raise empty(param)
    if not all(choices):
        raise RequestError(400, f"{param} has an empty string", param=param, code="empty_input")
    return _grammar(param, {"lark_grammar": f"start: /{'|'.join(map(_literally, choices))}/"})


def lark_grammar(param: str, grammar: str) -> Grammar:
    """Return a grammar in Lark's form, or in GBNF, which is rewritten in it.

    Raises:
        RequestError: 400, it is too large or empty.
    """
    if not grammar.strip():
        raise empty(param)
    return _whole(param, {LARK_OR_GBNF: grammar})


def _grammar(param: str, grammar: dict[str, Any]) -> Grammar:
    return _whole(param, {"grammars": [grammar]})


def _whole(param: str, document: dict[str, Any]) -> Grammar:
    text = json.dumps(document, ensure_ascii=False)
    if len(text) > MAX_CHARS:
        raise invalid(param, f"has {len(text)} characters and {MAX_CHARS} is the most")
    return Grammar(param, text)


def _literally(text: str) -> str:
    """Return a pattern that matches a text alone."""
    return re.sub(r"[^A-Za-z0-9]", lambda found: f"\\x{{{ord(found[0]):x}}}", text)


def _check_depth(param: str, schema: Any) -> None:
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
        if not level:
            return
    raise invalid(param, f"is nested more than {MAX_DEPTH} levels deep")
