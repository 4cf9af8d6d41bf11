"""Calls of tools in the text of an answer, as it comes."""

import json
import re
import uuid
from collections.abc import Collection
from typing import Any, Literal, TypedDict

import msgspec

from sendnn_pipeline.generation.api.stops import begin_of

# Hermes, Qwen and others write a call between these; newer Granite a list of them behind the first.
OPEN, CLOSE = "<tool_call>", "</tool_call>"
# What else calls may begin with: Granite, Llama 3, Mistral. Most are special tokens, and gone by now.
MARKS = ("<|tool_call|>", "<|python_tag|>", "[TOOL_CALLS]")
FIRST_KEYS = ("name", "type", "id", "function", "arguments", "parameters")
BEGUN = re.compile(r'\[?\s*\{\s*"(\w+)"')
BEGINNING = re.compile(r'\[?\s*(\{\s*("\w*)?)?')
BETWEEN = re.compile(r"[\s;,]*")


class CalledFunction(TypedDict):
    """What is called, with what."""

    name: str
    arguments: str
    """A JSON object, as text."""


class ToolCall(TypedDict):
    """A call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class NewToolCall(ToolCall):
    """A call in a stream."""

    index: int
    """Among the calls of an answer."""


class CallFinder:
    """Holds back what may be a call, and gives each once it is whole; what turns out to be none is text.

    Args:
        names: of functions that may be called.
        parallel: whether more than the first call counts.
    """

    def __init__(self, names: Collection[str], *, parallel: bool) -> None:
        self._names, self._parallel = names, parallel
        self._pending = ""
        self._is_first, self._in_call, self._is_behind_call = True, False, False
        self.num_calls = 0

    def feed(self, text: str) -> tuple[str, list[ToolCall]]:
        """Return the text that is sure to be none of a call, and the calls that are whole."""
        self._pending += text
        sure, calls = "", list[ToolCall]()
        while self._pending and not (self._is_first and self._may_be_bare()):
            self._is_first = False
            if self._in_call:
                if CLOSE not in self._pending:
                    break
                inside, _, self._pending = self._pending.partition(CLOSE)
                found = self._read(inside)
                self._in_call, self._is_behind_call = False, found is not None
                sure += f"{OPEN}{inside}{CLOSE}" if found is None else ""
                calls += found or ()
                continue
            before, mark, behind = self._pending.partition(OPEN)
            if not mark:
                at = begin_of(self._pending, OPEN)
                sure, self._pending = sure + self._out(self._pending[:at]), self._pending[at:]
                break
            sure, self._pending, self._in_call = sure + self._out(before), behind, True
        return sure, calls

    def finish(self) -> tuple[str, list[ToolCall]]:
        """Return what is left: the answer has ended."""
        pending, self._pending = self._pending, ""
        found = self._read(pending) if self._in_call or self._is_first else None
        return (OPEN + pending if self._in_call else self._out(pending), []) if found is None else ("", found)

    def _may_be_bare(self) -> bool:
        """Return whether all that there is may be the beginning of calls without a mark, or with one of others."""
        text = self._pending.lstrip()
        for mark in MARKS:
            if mark.startswith(text):
                return True
            text = text.removeprefix(mark).lstrip()
        begun = BEGUN.match(text)
        return begun[1] in FIRST_KEYS if begun else BEGINNING.fullmatch(text) is not None

    def _out(self, text: str) -> str:
        """Return text without the blanks that stand behind a call."""
        if self._is_behind_call:
            text = text.lstrip()
            self._is_behind_call = not text
        return text

    def _read(self, text: str) -> list[ToolCall] | None:
        """Return the calls that a text is; None where it is anything else."""
        for mark in MARKS:
            text = text.lstrip().removeprefix(mark)
        try:
            functions = [_function(value, self._names) for value in _values(text)]
        except (ValueError, RecursionError):
            return None
        found = [function for function in functions if function is not None]
        if not found or len(found) < len(functions):
            return None
        calls: list[ToolCall] = []
        for function in found if self._parallel else found[: 1 - min(1, self.num_calls)]:
            self.num_calls += 1
            calls.append({"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function})
        return calls


def _values(text: str) -> list[Any]:
    """Return the JSON values that stand one behind the other in a text, lists as what is in them.

    Raises:
        ValueError: there is anything else.
    """
    decoder, values, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        values += value if isinstance(value, list) else [value]
        between = BETWEEN.match(text, at)
        at = between.end() if between else at
    return values


def _function(value: Any, names: Collection[str]) -> CalledFunction | None:
    """Return the call in a JSON value; None where the value is not a call."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or value.get("name") not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {"name": value["name"], "arguments": text}
