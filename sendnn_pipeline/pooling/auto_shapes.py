"""``warmup=auto``: the cheapest shapes for a workload, within a budget of Programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from sendnn_pipeline.engines.lengths import Histogram
from sendnn_pipeline.pooling.shapes import LENGTH, pool_program, shape_order
from sendnn_pipeline.pooling.step_cost import StepCost
from sendnn_pipeline.programs.program import Program

MIN_LENGTH = 8
MAX_BATCH = 128
# Of the texts that the batcher looks at together, for the estimate of padding under a range.
WINDOW = 1024


@dataclass(frozen=True)
class ShapeChoice:
    """Programs, the share of computed tokens expected to be padding, and the milliseconds expected of a text.

    None where they were not chosen for a workload.
    """

    programs: tuple[Program, ...]
    padding: float | None
    text_ms: float | None


def choose_range(max_length: int, workload: Histogram, cost: StepCost, step_tokens: int) -> ShapeChoice:
    """Return the one Program that takes every batch of every length, as cheap as fixed shapes on a CPU."""
    min_length = min(MIN_LENGTH, max_length // 2) or None
    max_batch = max(2, min(MAX_BATCH, step_tokens // MIN_LENGTH))
    program = pool_program(max_length, max_batch, min_length, 1)
    lengths = _sample(workload.clipped(max_length), WINDOW)
    real = computed = 0
    spent_ms, start = 0.0, 0
    while start < len(lengths):
        length = max(lengths[start], min_length or max_length)
        batch = lengths[start : start + max(1, min(max_batch, step_tokens // length))]
        real, computed = real + sum(batch), computed + len(batch) * length
        spent_ms += cost.ms(len(batch), length)
        start += len(batch)
    return ShapeChoice((program,), 1 - real / computed, spent_ms / len(lengths))


def choose_fixed(
    max_length: int, workload: Histogram, cost: StepCost, step_tokens: int, *, budget: int, multiple: int
) -> ShapeChoice:
    """Choose at most ``budget`` fixed shapes by dynamic programming over the lengths at which a batch may end.

    Every text goes to the shortest chosen length that takes it, in full batches of about ``step_tokens``. Of a
    budget of four or more, two go to single texts, at the shortest and the longest length, for latency.

    Args:
        max_length: the model's longest input in tokens; always covered.
        workload: lengths and their shares.
        cost: milliseconds of a step.
        step_tokens: tokens of a full batch, padding included.
        budget: most Programs.
        multiple: what lengths must be multiples of; at least eight, as finer ones gain nothing.
    """
    shares, multiple = workload.clipped(max_length).shares, max(MIN_LENGTH, multiple)
    ends = sorted({min(max_length, -(-length // multiple) * multiple) for length, _ in shares} | {max_length})
    lengths = max(1, budget - 2 if budget >= 4 else budget)
    chosen = _cheapest(ends, shares, cost, step_tokens, min(lengths, len(ends)))
    batches = [pool_program(length, max(1, step_tokens // length)) for length in chosen]
    singles = {pool_program(chosen[0], 1), pool_program(max_length, 1)} if budget >= 4 else set()
    real = computed = text_ms = 0.0
    for length, share in shares:
        batch, padded = next(program.max_sizes for program in batches if program.dim(LENGTH).max >= length)
        real, computed = real + share * length, computed + share * padded
        text_ms += share * cost.ms(batch, padded) / batch
    programs = sorted({*batches, *singles}, key=shape_order)
    return ShapeChoice(tuple(programs), 1 - real / computed, text_ms)


def _cheapest(
    ends: Sequence[int], shares: Sequence[tuple[int, float]], cost: StepCost, step_tokens: int, count: int
) -> list[int]:
    """Return at most ``count`` of ``ends``, the last among them, that serve all texts in the shortest time.

    ``best[k][j]``: the shortest time of all texts up to ``ends[j]`` in ``k + 1`` lengths, ``ends[j]`` the longest.
    """
    text_ms = []
    for end in ends:
        batch = max(1, step_tokens // end)
        text_ms.append(cost.ms(batch, end) / batch)
    up_to = [sum(share for length, share in shares if length <= end) for end in ends]
    best = [[up_to[j] * text_ms[j] for j in range(len(ends))]]
    before: list[list[int]] = [[-1] * len(ends)]
    for k in range(1, count):
        row, links = [], []
        for j in range(len(ends)):
            options = [(best[k - 1][i] + (up_to[j] - up_to[i]) * text_ms[j], i) for i in range(j)]
            cheapest, link = min(options, default=(float("inf"), -1))
            row.append(cheapest)
            links.append(link)
        best.append(row)
        before.append(links)
    k = min(range(count), key=lambda used: best[used][-1])
    chosen, j = [], len(ends) - 1
    while j >= 0:
        chosen.append(ends[j])
        j, k = before[k][j], k - 1
    return chosen[::-1]


def _sample(workload: Histogram, count: int) -> list[int]:
    """Return ``count`` lengths, longest first, distributed as the histogram is."""
    lengths: list[int] = []
    due = 0.0
    for length, share in reversed(workload.shares):
        due += share * count
        lengths += [length] * (round(due) - len(lengths))
    return lengths or [workload.shares[-1][0]]
