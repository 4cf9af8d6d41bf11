"""How much padding a run is expected to compute: its own batcher, under the load of a bench, without a model."""

import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from sendnn_pipeline.pooling.batcher import Batch, Batcher, Item
from sendnn_pipeline.pooling.step_cost import StepCost
from sendnn_pipeline.programs.program import Program

# The load of serve=bench where nothing else is set: clients that send their next request when the last is answered.
CLIENTS, TEXTS_PER_REQUEST = 16, 8
LOAD = f"{CLIENTS} clients of {TEXTS_PER_REQUEST} texts"
NUM_TEXTS = 256
NEVER = float("inf")


def expected_padding(
    programs: Sequence[Program], cost: StepCost, step_tokens: int, concurrent_steps: int, lengths: Sequence[int]
) -> float:
    """Return the share of computed tokens that is padding: to batch-mates' length, to a Program's, and empty rows.

    Args:
        programs: of the run.
        cost: of a step.
        step_tokens: most tokens of a step whose batch is a range.
        concurrent_steps: steps that run at once.
        lengths: texts in tokens, in the order in which they are sent.
    """
    costs = {p: cost if p.has_ranges else StepCost(fixed_ms=cost.ms(*p.max_sizes)) for p in programs}
    batcher, requests, waiting = Batcher(costs, step_tokens), _requests(lengths), Counter[int]()

    def send() -> None:
        request = next(requests, [])
        waiting.update(item.request_id for item in request)
        batcher.add(request)

    for _ in range(CLIENTS):
        send()
    real = computed = 0
    running: deque[Batch] = deque()
    while len(batcher) or running:
        while len(running) < concurrent_steps and (batch := batcher.next()) is not None:
            rows, length = batch.sizes
            real, computed = real + batch.real_tokens, computed + rows * length
            running.append(batch)
        for item in running.popleft().items:
            waiting[item.request_id] -= 1
            if not waiting[item.request_id]:
                send()
    return 1 - real / computed


def sample_lengths(shares: Sequence[tuple[int, float]]) -> list[int]:
    """Draw the lengths of texts, the same each time."""
    lengths, weights = zip(*shares, strict=True)
    return random.Random(0).choices(lengths, weights, k=NUM_TEXTS)


def _requests(lengths: Sequence[int]) -> Iterator[list[Item]]:
    for start in range(0, len(lengths), TEXTS_PER_REQUEST):
        texts = lengths[start : start + TEXTS_PER_REQUEST]
        yield [Item(start, index, range(length), NEVER, 0.0) for index, length in enumerate(texts)]
