"""What a step takes by the times of its Programs, as a start of the engine measures them on its machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sendnn_pipeline.generation.plan import GenerationPlan
from sendnn_pipeline.generation.steps import PrefillStep, Step
from sendnn_pipeline.programs.program import Program
from sendnn_pipeline.programs.times import StepMs


@dataclass(frozen=True)
class ProgramCosts:
    """A step is a call of ``prefill`` or ``decode``, through all layers, and one of ``logits`` for rows with a token.

    Each is a sum of what grows with it, fitted to the few sizes that were timed.
    """

    prefill: Sequence[float]
    """Milliseconds of a call, of a token, and of a block that all of a chunk's tokens read."""
    decode: Sequence[float]
    """Milliseconds of a call, of a row, and of a block."""
    decode_one: Sequence[float]
    """The same of a call for one row."""
    logits: Sequence[float]
    """Milliseconds of a call, and of a row."""
    logits_one: Sequence[float]
    """The same of a call for one row."""

    def __call__(self, step: Step) -> float:
        """Return the milliseconds of a step."""
        if isinstance(step, PrefillStep):
            lengths = [len(chunk.token_ids) for chunk in step.chunks]
            blocks = max(len(chunk.block_table) for chunk in step.chunks)
            ms = _sum(self.prefill, _of_prefill((sum(lengths), len(lengths), max(lengths), blocks)))
        else:
            rows = len(step.request_ids)
            decode = self.decode_one if rows == 1 else self.decode
            ms = _sum(decode, _of_decode((rows, sum(map(len, step.block_tables)))))
        logits = self.logits_one if len(step.sampled) == 1 else self.logits
        return ms + (_sum(logits, (1.0, len(step.sampled))) if step.sampled else 0.0)


def program_costs(plan: GenerationPlan, measured: Mapping[str, StepMs]) -> ProgramCosts | None:
    """Return the costs of a run's steps; None where they were not measured yet.

    Args:
        plan: of the run.
        measured: milliseconds of full steps, by the names of Programs.
    """

    def times(program: Program) -> StepMs:
        return measured.get(program.name, {})

    # With several kinds of layers each has its Programs, and a step of any was timed through all layers.
    kind = plan.layer_kinds[0]
    prefill = times(plan.prefill(kind))
    decode = [times(program) for program in (plan.decode(kind), plan.decode_one(kind))]
    logits = [times(program) for program in (plan.logits, plan.logits_one)]
    if not all((prefill, *decode, *logits)):
        return None
    return ProgramCosts(
        _fit([_of_prefill(sizes) for sizes in prefill], list(prefill.values())),
        *(_fit([_of_decode(sizes) for sizes in steps], list(steps.values())) for steps in decode),
        *(_fit([(1.0, sizes[0]) for sizes in steps], list(steps.values())) for steps in logits),
    )


def _of_prefill(sizes: Sequence[float]) -> tuple[float, ...]:
    tokens, prompts, queries, blocks = sizes
    return 1.0, tokens, prompts * queries * blocks


def _of_decode(sizes: Sequence[float]) -> tuple[float, ...]:
    rows, blocks = sizes
    return 1.0, rows, blocks


def _sum(parts: Sequence[float], amounts: Sequence[float]) -> float:
    return sum(part * amount for part, amount in zip(parts, amounts, strict=True))


def _fit(amounts: Sequence[Sequence[float]], measured: Sequence[float]) -> list[float]:
    """Fit what each amount takes, small steps weighing as much as large ones.

    None is negative: one that would be is left out, the smallest first.
    """
    # Relative errors: every row is divided by what was measured.
    rows = np.array(amounts, dtype=float) / np.array(measured)[:, None]
    columns = list(range(rows.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(rows[:, columns], np.ones(len(rows)), rcond=None)
        if found.min() >= 0 or len(columns) == 1:
            break
        del columns[int(found.argmin())]
    parts = [0.0] * rows.shape[1]
    for column, value in zip(columns, found, strict=True):
        parts[column] = float(value)
    return parts
