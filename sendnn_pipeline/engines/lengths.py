"""How long a workload's inputs are, in tokens: what Programs are chosen for, and benches are made of. No torch."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ConfigError

# Keys of a JSON line that hold its number of tokens; the second is the perf log's.
TOKEN_KEYS = ("num_tokens", "num_prompt_tokens", "prompt_tokens")
# Where nothing is known: tokens of prose in requests of mixed length, lognormal with a median of 45.
MIXED_TEXTS = {8: 2, 16: 9, 24: 13, 32: 13, 48: 20, 64: 13, 96: 14, 128: 7, 192: 6, 256: 2, 512: 1}


@dataclass(frozen=True)
class Histogram:
    """Lengths in tokens, ascending, each with its share of the texts."""

    shares: tuple[tuple[int, float], ...]

    def clipped(self, max_length: int) -> "Histogram":
        """Cut every length to ``max_length``, as truncation does."""
        return histogram_of(dict(self.shares), max_length)

    @property
    def mean(self) -> float:
        """Tokens of the average text."""
        return sum(length * share for length, share in self.shares)


def histogram_of(counts: Mapping[int, float], max_length: int | None = None, where: str = "") -> Histogram:
    """Make shares of counts.

    Raises:
        ConfigError: a length or a count is not positive, or there are none.
    """
    if not counts or min(counts) < 1 or min(counts.values()) < 0 or sum(counts.values()) <= 0:
        raise ConfigError("a histogram of lengths needs lengths of 1 or more with their counts", where=where)
    total = sum(counts.values())
    merged: Counter[int] = Counter()
    for length, count in counts.items():
        merged[min(length, max_length) if max_length else length] += count / total  # type: ignore[assignment]
    return Histogram(tuple(sorted(merged.items())))


def read_trace(file: Path, where: str = "") -> Histogram:
    """Read lengths: a number a line, or JSON objects a line with one of ``TOKEN_KEYS``, such as the perf log's.

    A line of the perf log stands for a whole request: several texts of equal length.

    Raises:
        ConfigError: the file is missing, or a line is neither; the message names the line.
    """
    counts: Counter[int] = Counter()
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    length, count = _length_of(line, f"{file}, line {number}", where)
                    counts[length] += count
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the trace {file} cannot be read: {reason}", where=where) from None
    if not counts:
        raise ConfigError(f"the trace {file} holds no lengths", where=where)
    return histogram_of(counts, where=where)


def _length_of(line: str, name: str, where: str) -> tuple[int, int]:
    try:
        value: Any = json.loads(line)
    except ValueError:
        value = None
    count = 1
    if isinstance(value, dict):
        items = value.get("num_texts", 1)
        value = next((value[key] for key in TOKEN_KEYS if key in value), None)
        if isinstance(items, int) and items > 1 and isinstance(value, int):
            value, count = max(1, value // items), items
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"{name} has no number of tokens",
            where=where,
            hint=f"write a number a line, or JSON objects with {' or '.join(TOKEN_KEYS)}",
        )
    return value, count
