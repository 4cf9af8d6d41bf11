"""Lines of an input file: what is asked of each, or why it cannot be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from sendnn_pipeline.errors import ConfigError

TEXT_KEYS = ("text", "input")
MAX_LINE_BYTES = 64 * 2**20
OPENAI_URL = "/v1/embeddings"
SCORE_URL = "/v1/score"


@dataclass(frozen=True)
class Line:
    """One line: its texts or token ids, or the problem with it."""

    number: int
    end: int
    """Offset of the byte after it."""
    texts: tuple[str, ...] = ()
    token_ids: tuple[list[int], ...] = ()
    echoed: Mapping[str, Any] | None = None
    """Fields that its answer repeats."""
    url: str = ""
    """What else than texts it asks for: the path of a route that takes ``body``."""
    body: Mapping[str, Any] | None = None
    openai: bool = False
    """Whether the answer takes the form of an OpenAI batch file."""
    problem: str = ""


def read_lines(stream: BinaryIO, number: int) -> Iterator[Line]:
    """Yield the lines from where ``stream`` stands; the next one has ``number``. Blank lines ask for nothing.

    A line is a JSON object with ``text`` or ``input``, one with ``query`` and ``documents``, a JSON string, or a line
    of an OpenAI batch file.
    """
    end = stream.tell()
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        end += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_BYTES)
                end += len(raw)
            yield Line(number, end, problem=f"it is longer than {MAX_LINE_BYTES} bytes")
        elif raw.strip():
            yield _parse(raw, number, end)
        number += 1


def _parse(raw: bytes, number: int, end: int) -> Line:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Line(number, end, problem=f"it is no JSON: {error}")
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        return Line(number, end, problem="it is neither an object nor a string")
    if "custom_id" in value and "body" in value:
        return _openai(value, number, end)
    if "query" in value and "documents" in value:
        echoed = {name: held for name, held in value.items() if name != "documents"}
        asked = {"queries": value["query"], "documents": value["documents"]}
        return Line(number, end, echoed=echoed, url=SCORE_URL, body=asked)
    key = next((key for key in TEXT_KEYS if key in value), None)
    if key is None:
        return Line(number, end, problem=f"it has no {' or '.join(TEXT_KEYS)}, nor query and documents")
    echoed = {name: held for name, held in value.items() if name != key}
    return _asked(value[key], Line(number, end, echoed=echoed))


def _openai(value: dict[str, Any], number: int, end: int) -> Line:
    line = Line(number, end, echoed={"custom_id": value["custom_id"]}, openai=True)
    body, url = value["body"], value.get("url", OPENAI_URL)
    if not isinstance(body, dict):
        return replace(line, problem="its body is no object")
    if url != OPENAI_URL:
        return replace(line, url=str(url), body=body)
    if "input" not in body:
        return replace(line, problem="its body has no input")
    return _asked(body["input"], line)


def _asked(asked: Any, line: Line) -> Line:
    items = asked if isinstance(asked, list) and asked and not isinstance(asked[0], int) else [asked]
    if items and all(isinstance(item, str) and item for item in items):
        return replace(line, texts=tuple(items))
    if items and all(isinstance(item, list) and item and all(type(held) is int for held in item) for item in items):
        return replace(line, token_ids=tuple(items))
    return replace(line, problem="it asks for neither text nor token ids")


def open_input(path: str | None) -> tuple[Path, int]:
    """Return the input file and its size in bytes.

    Raises:
        ConfigError: none is named, or it cannot be read.
    """
    if not path:
        raise ConfigError("serve.input is not set", hint="name a JSONL file of texts with serve.input=FILE")
    file = Path(path).expanduser()
    try:
        with file.open("rb"):
            return file, file.stat().st_size
    except OSError as error:
        raise ConfigError(f"serve.input={path} cannot be read: {error.strerror}", hint="name another file") from None
