"""The requests of a workload: real tokens of real prose, the same for the same seed. No torch."""

import pydoc_data.topics
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sendnn_pipeline.config.schema import WorkloadConfig
from sendnn_pipeline.config.workload import read_trace


@dataclass(frozen=True)
class Request:
    """Token ids of each text, and when it is sent at the earliest, in seconds after the start."""

    items: tuple[tuple[int, ...], ...]
    at: float
    query: tuple[int, ...] = ()
    """Of a reranking, whose documents are the items; without special tokens, as they then are."""


def prose() -> str:
    """Return Python's own documentation: prose that is everywhere where Python is."""
    return " ".join(pydoc_data.topics.topics.values())


def reranks(workload: WorkloadConfig, labels: Sequence[str]) -> bool:
    """Return whether requests are rankings: as asked, else where the model is a cross-encoder."""
    return workload.task == "rerank" or (workload.task == "auto" and len(labels) == 1)


def make_requests(
    workload: WorkloadConfig,
    longest: int,
    corpus: Sequence[int],
    around: tuple[Sequence[int], Sequence[int]],
    *,
    rerank: bool = False,
) -> list[Request]:
    """Draw the requests of one round.

    Args:
        workload: lengths, counts, rate and seed.
        longest: the most tokens of a text; longer ones are cut.
        corpus: token ids of prose, without special tokens.
        around: the special tokens before and after every text.
        rerank: whether each is a query with its documents, both without special tokens.

    Raises:
        ConfigError: the trace cannot be used.
    """
    chooser = random.Random(workload.seed)
    before, after = ((), ()) if rerank else around
    least = len(before) + len(after) + 1
    lengths = [
        min(longest, max(least, length))
        for length in _lengths(workload, chooser, workload.num_requests * workload.texts_per_request)
    ]
    texts = []
    for length in lengths:
        inner = length - len(before) - len(after)
        start = chooser.randrange(len(corpus) - inner)
        texts.append((*before, *corpus[start : start + inner], *after))
    times = _arrivals(workload, chooser)
    places = range(0, len(texts) + 1, workload.texts_per_request)
    queries: list[tuple[int, ...]] = [()] * workload.num_requests
    if rerank:
        starts = [chooser.randrange(len(corpus) - workload.query_tokens) for _ in queries]
        queries = [tuple(corpus[start : start + workload.query_tokens]) for start in starts]
    return [
        Request(tuple(texts[start:end]), at, query)
        for (start, end), at, query in zip(pairwise(places), times, queries, strict=True)
    ]


def _lengths(workload: WorkloadConfig, chooser: random.Random, count: int) -> list[int]:
    if workload.lengths == "uniform":
        return [chooser.randint(workload.least, workload.most) for _ in range(count)]
    if workload.lengths == "trace":
        shares = read_trace(Path(workload.trace or "")).shares
        return chooser.choices([length for length, _ in shares], [share for _, share in shares], k=count)
    drawn = (round(workload.median * chooser.lognormvariate(0.0, workload.sigma)) for _ in range(count))
    return [min(workload.most, max(workload.least, length)) for length in drawn]


def _arrivals(workload: WorkloadConfig, chooser: random.Random) -> list[float]:
    """Return when each request is due: at once in a closed loop, at random intervals of a mean in an open one."""
    if workload.rate is None:
        return [0.0] * workload.num_requests
    now, times = 0.0, []
    for _ in range(workload.num_requests):
        times.append(now)
        now += chooser.expovariate(workload.rate)
    return times
