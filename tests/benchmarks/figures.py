"""How figures are printed: a median with its spread, percentiles, and ratios of pairs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

OURS = "ours"


def median(numbers: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(numbers)


def spread(numbers: Sequence[float], form: str) -> str:
    """Return the median, and the smallest to the largest."""
    low, middle, high = (format(number, form) for number in (min(numbers), median(numbers), max(numbers)))
    return f"{middle} ({low} to {high})"


def p50_p99(seconds: Sequence[float]) -> str:
    """Return both percentiles in milliseconds."""
    p50, p99 = np.percentile([one * 1000 for one in seconds], [50, 99])
    return f"p50 {p50:.0f} ms p99 {p99:.0f} ms"


def pairs(rates: Mapping[str, Sequence[float]], name: str) -> str:
    """Return ours over ``name``, round by round; nothing where either is missing."""
    if OURS not in rates or name == OURS:
        return ""
    ratios = [mine / theirs for mine, theirs in zip(rates[OURS], rates[name], strict=True)]
    return f", ours over it {spread(ratios, '.2f')}"
