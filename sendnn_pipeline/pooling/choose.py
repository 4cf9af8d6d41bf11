"""What ``warmup=auto`` stands for: the backend's limits, the workload and measured costs, brought together."""

from collections.abc import Mapping
from dataclasses import dataclass

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.engines.lengths import MIXED_TEXTS, Histogram, histogram_of, read_trace
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.pooling.auto_shapes import ShapeChoice, choose_fixed, choose_range
from sendnn_pipeline.pooling.shapes import FUNCTION, parse_shapes
from sendnn_pipeline.pooling.step_cost import UNMEASURED, StepCost, fit_step_cost
from sendnn_pipeline.programs.program import Sizes


@dataclass(frozen=True)
class ShapeNeeds:
    """What shapes are chosen for."""

    max_length: int
    step_tokens: int
    workload: Histogram
    cost: StepCost
    budget: int


def choose_shapes(needs: ShapeNeeds, limits: Limits) -> ShapeChoice:
    """Choose what the backend has as its default, else a range where it takes ranges, else shapes within the budget."""
    if limits.default_shapes:
        return ShapeChoice(parse_shapes(list(limits.default_shapes)) or (), None, None)
    if limits.ranges:
        return choose_range(needs.max_length, needs.workload, needs.cost, needs.step_tokens)
    return choose_fixed(
        needs.max_length,
        needs.workload,
        needs.cost,
        needs.step_tokens,
        budget=needs.budget,
        multiple=limits.token_multiple,
    )


def read_workload(trace: str | None, where: str = "") -> Histogram:
    """Return the lengths of the trace, else those of mixed prose.

    Raises:
        ConfigError: the trace cannot be used.
    """
    return read_trace(expand_path(trace, "warmup.trace", where), where) if trace else histogram_of(MIXED_TEXTS)


def cost_of_steps(recorded: Mapping[str, Mapping[Sizes, float]]) -> StepCost:
    """Return what steps cost, as far as earlier runs on this machine measured them.

    Args:
        recorded: milliseconds by size, by Program; those of other engines are left out.
    """
    steps: dict[Sizes, float] = {}
    for measured in (recorded[name] for name in recorded if name.startswith(f"{FUNCTION}[")):
        for sizes, ms in measured.items():
            steps[sizes] = min(ms, steps.get(sizes, ms))
    return fit_step_cost(steps) if len(steps) >= 3 else UNMEASURED
