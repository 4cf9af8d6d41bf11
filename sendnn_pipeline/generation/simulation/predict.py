"""When every token of a played scenario would come, if its steps took so long."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

from sendnn_pipeline.generation.simulation.costs import StepCost
from sendnn_pipeline.generation.simulation.play import Played

PERCENTILES = (50, 90, 99)


class RequestPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """The times of one request, in milliseconds from its arrival."""

    id: str
    queued_ms: float
    """Until its first chunk begins."""
    ttft_ms: float
    """Until its first token."""
    itl_ms: float
    """Between two tokens, on average; 0 where there is but one."""
    max_itl_ms: float
    e2e_ms: float
    """Until its last token."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The times of all requests. Percentiles are by name, such as ``p50``."""

    total_ms: float
    """From the first step to the last."""
    output_tokens: int
    tokens_per_second: float
    """Of all answers; 0 where steps take no time."""
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    """Over every two tokens of a request that follow each other."""
    requests: list[RequestPrediction]


def predict(played: Played, cost: StepCost) -> Prediction:
    """Return when tokens come; a request arrives as the step of its ``arrival_step`` begins.

    Args:
        played: a scenario.
        cost: gives the milliseconds of a step; any callable, such as ``MeasuredCosts``.
    """
    begins = begins_of(played, cost)
    tokens: list[list[float]] = [[] for _ in played.scenario.requests]
    begun: dict[int, float] = {}
    for step, begin, end in zip(played.steps, begins, begins[1:], strict=False):
        if step is None:
            continue
        for index in step.request_ids:
            begun.setdefault(index, begin)
        for index in step.sampled:
            tokens[index].append(end)
    requests = []
    gaps: list[float] = []
    for index, (request, times) in enumerate(zip(played.scenario.requests, tokens, strict=True)):
        arrived = begins[request.arrival_step]
        own = [later - earlier for earlier, later in pairwise(times)]
        gaps += own
        requests.append(
            RequestPrediction(
                id=request.id,
                queued_ms=begun[index] - arrived,
                ttft_ms=times[0] - arrived,
                itl_ms=sum(own) / len(own) if own else 0.0,
                max_itl_ms=max(own, default=0.0),
                e2e_ms=times[-1] - arrived,
            )
        )
    count = sum(map(len, tokens))
    return Prediction(
        total_ms=begins[-1],
        output_tokens=count,
        tokens_per_second=count / begins[-1] * 1000 if begins[-1] else 0.0,
        ttft_ms=percentiles([request.ttft_ms for request in requests]),
        itl_ms=percentiles(gaps),
        requests=requests,
    )


def begins_of(played: Played, cost: StepCost) -> list[float]:
    """Return the millisecond at which each row's step begins; of the last row, at which all has ended."""
    return list(accumulate((0.0 if step is None else cost(step) for step in played.steps), initial=0.0))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return percentiles by name, interpolated between neighbours; none of no values."""
    if not values:
        return {}
    ordered = sorted(values)
    found = {}
    for percent in PERCENTILES:
        whole, rest = divmod((len(ordered) - 1) * percent, 100)
        above = ordered[min(whole + 1, len(ordered) - 1)]
        found[f"p{percent}"] = ordered[whole] + (above - ordered[whole]) * rest / 100
    return found
