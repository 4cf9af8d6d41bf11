"""``warmup=auto``: the shapes that cost a workload the least, within a budget of Programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from sendnn_pipeline.config.shapes import Shape
from sendnn_pipeline.config.step_cost import StepCost
from sendnn_pipeline.config.workload import Histogram

LEAST_LEN = 8
MOST_BATCH = 128
# Of the texts that the batcher looks at together, for the estimate of padding under a range.
WINDOW = 1024


@dataclass(frozen=True)
class Choice:
    """Shapes, the share of computed tokens expected to be padding, and the milliseconds expected of a text.

    None where the shapes were not chosen for a workload.
    """

    shapes: tuple[Shape, ...]
    padding: float | None
    text_ms: float | None


def choose_range(longest: int, workload: Histogram, cost: StepCost, step_tokens: int) -> Choice:
    """Return the one Program that takes every batch of every length, as cheap as fixed shapes on a CPU."""
    least_len = min(LEAST_LEN, longest // 2) or None
    shape = Shape(longest, max(2, min(MOST_BATCH, step_tokens // LEAST_LEN)), least_len, 1)
    lengths = _sample(workload.clipped(longest), WINDOW)
    real = computed = 0
    spent_ms, start = 0.0, 0
    while start < len(lengths):
        length = max(lengths[start], least_len or longest)
        batch = lengths[start : start + max(1, min(shape.batch_size, step_tokens // length))]
        real, computed = real + sum(batch), computed + len(batch) * length
        spent_ms += cost.ms(len(batch), length)
        start += len(batch)
    return Choice((shape,), 1 - real / computed, spent_ms / len(lengths))


def choose_fixed(
    longest: int, workload: Histogram, cost: StepCost, step_tokens: int, *, budget: int, multiple: int
) -> Choice:
    """Choose at most ``budget`` fixed shapes by dynamic programming over the lengths at which a batch may end.

    Every text goes to the shortest chosen length that takes it, in full batches of about ``step_tokens``. Of a
    budget of four or more, two go to single texts, at the shortest and the longest length, for latency.

    Args:
        longest: the model's longest input in tokens; always covered.
        workload: lengths and their shares.
        cost: milliseconds of a step.
        step_tokens: tokens of a full batch, padding included.
        budget: most Programs.
        multiple: what lengths must be multiples of; eight at least, as finer ones gain nothing.
    """
    shares, multiple = workload.clipped(longest).shares, max(LEAST_LEN, multiple)
    ends = sorted({min(longest, -(-length // multiple) * multiple) for length, _ in shares} | {longest})
    lengths = max(1, budget - 2 if budget >= 4 else budget)
    chosen = _least_ms(ends, shares, cost, step_tokens, min(lengths, len(ends)))
    batches = [Shape(length, max(1, step_tokens // length)) for length in chosen]
    singles = {Shape(chosen[0], 1), Shape(longest, 1)} if budget >= 4 else set()
    real = computed = text_ms = 0.0
    for length, share in shares:
        shape = next(shape for shape in batches if shape.prompt_len >= length)
        real, computed = real + share * length, computed + share * shape.prompt_len
        text_ms += share * cost.ms(shape.batch_size, shape.prompt_len) / shape.batch_size
    shapes = sorted({*batches, *singles}, key=Shape.order)
    return Choice(tuple(shapes), 1 - real / computed, text_ms)


def _least_ms(
    ends: Sequence[int], shares: Sequence[tuple[int, float]], cost: StepCost, step_tokens: int, count: int
) -> list[int]:
    """Return at most ``count`` of ``ends``, the last among them, that serve all texts in the least time.

    ``best[k][j]``: the least time of all texts up to ``ends[j]`` in ``k + 1`` lengths, the longest of them ``ends[j]``.
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
            least, link = min(options, default=(float("inf"), -1))
            row.append(least)
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
