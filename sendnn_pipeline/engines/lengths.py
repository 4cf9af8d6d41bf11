"""How long a workload's inputs are, in tokens: what Programs are chosen for, and benches are made of. No torch."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ConfigError, counted
from sendnn_pipeline.files import read_text

# Keys of a JSON line that hold its number of tokens; the second is the perf log's.
TOKEN_KEYS = ("num_tokens", "num_prompt_tokens", "prompt_tokens")
FORMS = f"write a number a line, or JSON objects with {' or '.join(TOKEN_KEYS)}"
# Where nothing is known: tokens of prose in requests of mixed length, lognormal with a median of 45.
MIXED_TEXTS = {8: 2, 16: 9, 24: 13, 32: 13, 48: 20, 64: 13, 96: 14, 128: 7, 192: 6, 256: 2, 512: 1}
# The same by the token, as a bench draws them: neighbours in a batch are rarely of one length.
MEDIAN_TOKENS, SIGMA, MAX_TOKENS = 45.0, 0.85, 512


@dataclass(frozen=True)
class Histogram:
    """Lengths in tokens, ascending, each with its share of the texts."""

    shares: tuple[tuple[int, float], ...]
    num_left_out: int = 0
    """Lines of its trace without tokens, such as those of requests that failed."""

    def clipped(self, max_length: int) -> "Histogram":
        """Cut every length to ``max_length``, as truncation does."""
        return replace(histogram_of(dict(self.shares), max_length), num_left_out=self.num_left_out)

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


def mixed_texts() -> Histogram:
    """Return the lengths of mixed prose by the token."""
    weights = {n: math.exp(-((math.log(n / MEDIAN_TOKENS) / SIGMA) ** 2) / 2) / n for n in range(5, MAX_TOKENS + 1)}
    return histogram_of(weights)


def read_trace(file: Path, where: str = "") -> Histogram:
    """Read lengths: a number a line, or JSON objects a line with one of ``TOKEN_KEYS``, such as the perf log's.

    A line of the perf log stands for a whole request: several texts of equal length. An object without tokens, as a
    request that failed leaves it, is counted and left out.

    Raises:
        ConfigError: the file is missing, or a line is neither; the message names the line.
    """
    counts: Counter[int] = Counter()
    num_left_out = 0
    try:
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            if line.strip():
                found = _length_of(line, f"{file}, line {number}", where)
                if found is None:
                    num_left_out += 1
                else:
                    counts[found[0]] += found[1]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"the trace {file} cannot be read: {reason}", where=where) from None
    if not counts:
        without = f": none of its {num_left_out} lines has a number of tokens" if num_left_out else ""
        raise ConfigError(f"the trace {file} holds no lengths{without}", where=where, hint=FORMS)
    return replace(histogram_of(counts, where=where), num_left_out=num_left_out)


def describe_left_out(lengths: Histogram, trace: str) -> str:
    """Return a line for the user on what of a trace was left out; empty where nothing was."""
    number = lengths.num_left_out
    what = "has no tokens and is" if number == 1 else "have no tokens and are"
    return f"{counted(number, 'line')} of {trace} {what} left out" if number else ""


def _length_of(line: str, name: str, where: str) -> tuple[int, int] | None:
    """Return the length of a line's texts and how many there are; None where it is an object without tokens."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        value = None
    count = 1
    if isinstance(value, dict):
        items = value.get("num_texts", 1)
        value = next((value[key] for key in TOKEN_KEYS if value.get(key)), None)
        if value is None:
            return None
        if isinstance(items, int) and items > 1 and isinstance(value, int):
            value, count = max(1, value // items), items
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} has no number of tokens", where=where, hint=FORMS)
    return value, count
