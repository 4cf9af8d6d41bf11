"""Lines of an input file: what is asked of each, or why it cannot be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.paths import expand_path

MAX_LINE_BYTES = 64 * 2**20
DEFAULT_URL = "/v1/embeddings"


@dataclass(frozen=True)
class Line:
    """One line: an object of the user's own form, a line of an OpenAI batch file, or the problem with it."""

    number: int
    end: int
    """Offset of the byte after it."""
    value: Mapping[str, Any] = field(default_factory=dict)
    """The object; of an OpenAI batch file what its answer repeats."""
    url: str = ""
    """The route that an OpenAI batch file's line names."""
    body: Any = None
    """What it asks there."""
    problem: str = ""

    @property
    def openai(self) -> bool:
        """Whether the answer takes the form of an OpenAI batch file."""
        return bool(self.url)


def read_lines(stream: BinaryIO, number: int) -> Iterator[Line]:
    """Yield the lines from where ``stream`` stands; the next one has ``number``. Blank lines ask for nothing.

    A line is a JSON object, a JSON string, which stands for an object with ``text``, or a line of an OpenAI batch file.
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
        return Line(number, end, problem=f"it is not JSON: {error}")
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        return Line(number, end, problem="it is neither an object nor a string")
    if "custom_id" in value and "body" in value:
        url = str(value.get("url", DEFAULT_URL))
        return Line(number, end, {"custom_id": value["custom_id"]}, url, value["body"])
    return Line(number, end, value)


def open_input(path: str | None) -> tuple[Path, int]:
    """Return the input file and its size in bytes.

    Raises:
        ConfigError: none is named, or it cannot be read.
    """
    if not path:
        raise ConfigError("serve.input is not set", hint="name a JSONL file of texts with serve.input=FILE")
    file = expand_path(path, "serve.input")
    try:
        with file.open("rb"):
            return file, file.stat().st_size
    except OSError as error:
        raise ConfigError(f"serve.input={path} cannot be read: {error.strerror}", hint="name another file") from None
