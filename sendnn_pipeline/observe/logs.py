"""Logs of every process of a run, on standard error, through Python's own logging: lines of text, or of JSON."""

import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from sendnn_pipeline.config.serving import LogConfig, LogFormat

OURS = "sendnn_pipeline"
MAX_LENGTH = 2000
# What would break a line in two, or move a terminal's cursor.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is answered in this context."""


@contextmanager
def logging_to_stderr(config: LogConfig, rank: int | None = None) -> Iterator[None]:
    """Log while the block runs; other libraries' records count from warnings on.

    Args:
        config: level and format.
        rank: of an engine process; None in the process that answers.
    """
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    before = root.level, ours.level
    level = logging.getLevelNamesMapping()[config.level.upper()]
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(rank) if config.format == LogFormat.json else TextFormatter(rank))
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    ours.setLevel(level)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])


class _Formatter(logging.Formatter):
    def __init__(self, rank: int | None) -> None:
        super().__init__()
        self._rank = rank

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what the record was logged with as ``extra={"fields": ...}``, and the request it belongs to."""
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        own = {"request_id": request_id.get()[:MAX_LENGTH]} if request_id.get() else {}
        return own | {name: _cut(value) for name, value in fields.items()}


class TextFormatter(_Formatter):
    """``TIME LEVEL edge|rank N LOGGER: MESSAGE name=value …``, tracebacks below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        who = "edge" if self._rank is None else f"rank {self._rank}"
        fields = "".join(f" {name}={_word(value)}" for name, value in self._fields(record).items())
        message = _one_line(_cut(record.getMessage()))
        line = f"{utc(record.created)} {record.levelname:<7} {who} {record.name}: {message}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(_Formatter):
    """``time``, ``level``, ``rank`` (null in the process that answers), ``logger``, ``message``, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object in one line."""
        content = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "rank": self._rank,
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **self._fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)


class LogStream(io.StringIO):
    """A file for the console whose lines become records, so that the log has one form."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log, self._rest = log, ""

    def write(self, text: str) -> int:
        """Log every line that is whole."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, map(str.rstrip, lines)):
            self._log.log(logging.WARNING if line.startswith("warning: ") else logging.INFO, "%s", line)
        return len(text)


def utc(seconds: float) -> str:
    """Write Unix time in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(value: Any) -> Any:
    return f"{value[:MAX_LENGTH]}…" if isinstance(value, str) and len(value) > MAX_LENGTH else value


def _one_line(text: str) -> str:
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _word(value: Any) -> str:
    text = _one_line(str(value))
    return json.dumps(text) if not text or " " in text or '"' in text else text
