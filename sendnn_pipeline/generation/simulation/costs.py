"""What a step takes, in milliseconds: fixed, or as it was measured for steps of some sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sendnn_pipeline.generation.steps import PrefillStep, Step

StepCost: TypeAlias = Callable[[Step], float]
"""Gives the milliseconds of a step."""


@dataclass(frozen=True)
class FixedCosts:
    """Every step of a kind takes the same time, as on a device that computes one size."""

    prefill_ms: float
    decode_ms: float

    def __call__(self, step: Step) -> float:
        """Return the milliseconds of a step."""
        return self.prefill_ms if isinstance(step, PrefillStep) else self.decode_ms


@dataclass(frozen=True)
class MeasuredCosts:
    """A step takes what the cheapest measured one that is as large took; beyond the largest, in proportion to it."""

    prefill_ms: Mapping[int, float]
    """By the rows of all chunks."""
    decode_ms: Mapping[tuple[int, int], float]
    """By rows and the most blocks of a row."""

    def __call__(self, step: Step) -> float:
        """Return the milliseconds of a step."""
        if isinstance(step, PrefillStep):
            num_rows = sum(chunk.num_rows for chunk in step.chunks)
            return _cover({(size, 1): ms for size, ms in self.prefill_ms.items()}, (num_rows, 1))
        return _cover(self.decode_ms, (len(step.request_ids), max(map(len, step.block_tables))))


def _cover(measured: Mapping[tuple[int, int], float], sizes: tuple[int, int]) -> float:
    covering = [ms for (first, second), ms in measured.items() if first >= sizes[0] and second >= sizes[1]]
    if covering:
        return min(covering)
    largest = max(measured, key=lambda known: known[0] * known[1])
    return measured[largest] * max(1.0, sizes[0] / largest[0]) * max(1.0, sizes[1] / largest[1])
