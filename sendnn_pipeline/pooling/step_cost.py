"""What a step costs in milliseconds, as a function of its batch and length. Fitted to measured steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StepCost:
    """A fixed part, a part for every token, and one for every pair of tokens that attend to each other."""

    fixed_ms: float
    token_ms: float = 0.0
    pair_ms: float = 0.0

    def ms(self, batch: int, length: int) -> float:
        """Return the milliseconds of a step of ``[batch, length]`` tokens."""
        tokens = batch * length
        return self.fixed_ms + tokens * self.token_ms + tokens * length * self.pair_ms


# Of a small encoder on two cores. Only the proportions matter: they choose shapes before anything was measured.
UNMEASURED = StepCost(fixed_ms=4.0, token_ms=0.16, pair_ms=0.0001)


def fit_step_cost(measured_ms: Mapping[tuple[int, ...], float]) -> StepCost:
    """Fit the three parts to steps of ``(batch, length)``, small steps weighing as much as large ones.

    No part is negative: one that would be is left out, the smallest first.

    Args:
        measured_ms: milliseconds of each step; at least one.
    """
    sizes = np.array(list(measured_ms), dtype=float)
    measured = np.array(list(measured_ms.values()), dtype=float)
    tokens = sizes[:, 0] * sizes[:, 1]
    # Relative errors: every row is divided by what was measured.
    rows = np.stack([np.ones(len(tokens)), tokens, tokens * sizes[:, 1]], axis=1) / measured[:, None]
    columns = list(range(min(3, len(tokens))))
    while True:
        found, *_ = np.linalg.lstsq(rows[:, columns], np.ones(len(tokens)), rcond=None)
        if found.min() >= 0 or len(columns) == 1:
            break
        del columns[int(found.argmin())]
    parts = [0.0, 0.0, 0.0]
    for column, value in zip(columns, found, strict=True):
        parts[column] = float(value)
    return StepCost(*parts)
