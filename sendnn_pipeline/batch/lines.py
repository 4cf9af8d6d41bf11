"""Lines of an input file: what is asked of each, or why it cannot be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from sendnn_pipeline.files import BOM, check_head
from sendnn_pipeline.frontend.bodies import why_no_json

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


def read_lines(stream: BinaryIO, end: int, number: int) -> Iterator[Line]:
    """Yield the lines from where ``stream`` stands. Blank lines ask for nothing.

    A line is a JSON object, a JSON string, which stands for an object with ``text``, or a line of an OpenAI batch file.

    Args:
        stream: the input.
        end: offset at which it stands.
        number: of the next line.

    Raises:
        ValueError: it is not UTF-8.
    """
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        begins, end = not end, end + len(raw)
        if begins:
            check_head(raw)
            raw = raw.removeprefix(BOM)
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
        return Line(number, end, problem=f"it is not JSON: {why_no_json(raw, error)}")
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        return Line(number, end, problem="it is neither an object nor a string")
    if "custom_id" in value and "body" in value:
        url = str(value.get("url") or DEFAULT_URL)
        return Line(number, end, {"custom_id": value["custom_id"]}, url, value["body"])
    return Line(number, end, value)
