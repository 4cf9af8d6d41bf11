"""The requests of a workload: real tokens of real prose, the same for the same seed. No torch."""

import pydoc_data.topics
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sendnn_pipeline.config.serving import Lengths, WorkloadConfig
from sendnn_pipeline.engines.lengths import describe_left_out, read_trace
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.frontend.endpoint import BenchItems
from sendnn_pipeline.frontend.tokenizer import TextTokenizer
from sendnn_pipeline.paths import expand_path


@dataclass(frozen=True)
class Draw:
    """Where in the prose the texts of one request begin and end, in tokens, and when it is sent at the earliest."""

    spans: tuple[tuple[int, int], ...]
    query: tuple[int, int]
    at: float
    """Seconds after the start."""
    num_cut: int = 0
    """Texts that the workload has longer."""


def check_workload(workload: WorkloadConfig) -> str:
    """Refuse a workload of which no requests can be drawn, and return what of its trace is left out.

    Raises:
        ConfigError: it is none; the message says why.
    """
    if workload.max_tokens < workload.min_tokens:
        raise ConfigError(
            f"workload.max_tokens={workload.max_tokens} is less than workload.min_tokens={workload.min_tokens}",
            hint="raise it, or lower the other",
        )
    if workload.lengths == Lengths.trace:
        if not workload.trace:
            raise ConfigError(
                "workload.lengths=trace needs a file of lengths", hint="name one with workload.trace=FILE"
            )
        found = read_trace(expand_path(workload.trace, "workload.trace"))
        return describe_left_out(found, f"workload.trace={workload.trace}")
    return ""


def prose() -> str:
    """Return Python's own documentation: prose that is everywhere where Python is."""
    return " ".join(pydoc_data.topics.topics.values())


def draw_requests(workload: WorkloadConfig, max_tokens: int, corpus_tokens: int, num_special: int) -> list[Draw]:
    """Draw the requests of one round.

    Args:
        workload: lengths, counts, rate and seed.
        max_tokens: the most tokens of a text; longer ones are cut.
        corpus_tokens: of the prose.
        num_special: tokens around every text, which count.

    Raises:
        ConfigError: the trace cannot be read any more.
    """
    chooser = random.Random(workload.seed)
    lengths = _lengths(workload, chooser, workload.num_requests * workload.texts_per_request)
    spans = []
    for length in lengths:
        inner = min(max_tokens, max(num_special + 1, length)) - num_special
        start = chooser.randrange(corpus_tokens - inner)
        spans.append((start, start + inner))
    times = _arrivals(workload, chooser)
    starts = [chooser.randrange(corpus_tokens - workload.query_tokens) for _ in times]
    bounds = range(0, len(spans) + 1, workload.texts_per_request)
    return [
        Draw(
            tuple(spans[first:end]),
            (start, start + workload.query_tokens),
            at,
            num_cut=sum(length > max_tokens for length in lengths[first:end]),
        )
        for (first, end), start, at in zip(pairwise(bounds), starts, times, strict=True)
    ]


async def make_items(draws: Sequence[Draw], corpus: Sequence[int], tokenizer: TextTokenizer) -> list[BenchItems]:
    """Return token ids and texts of every request."""
    (bare,) = await tokenizer.encode([""], None)
    before, after = bare[: (len(bare) + 1) // 2], bare[(len(bare) + 1) // 2 :]
    made = []
    for draw in draws:
        inner = [list(corpus[start:end]) for start, end in draw.spans]
        texts = [await tokenizer.decode(ids) for ids in inner]
        query = await tokenizer.decode(corpus[draw.query[0] : draw.query[1]])
        made.append(BenchItems([[*before, *ids, *after] for ids in inner], texts, query))
    return made


def _lengths(workload: WorkloadConfig, chooser: random.Random, count: int) -> list[int]:
    if workload.lengths == Lengths.uniform:
        return [chooser.randint(workload.min_tokens, workload.max_tokens) for _ in range(count)]
    if workload.lengths == Lengths.trace:
        shares = read_trace(expand_path(workload.trace or "", "workload.trace")).shares
        return chooser.choices([length for length, _ in shares], [share for _, share in shares], k=count)
    drawn = (round(workload.median * chooser.lognormvariate(0.0, workload.sigma)) for _ in range(count))
    return [min(workload.max_tokens, max(workload.min_tokens, length)) for length in drawn]


def _arrivals(workload: WorkloadConfig, chooser: random.Random) -> list[float]:
    """Return when each request is due: at once in a closed loop, at random intervals of a mean in an open one."""
    if workload.rate is None:
        return [0.0] * workload.num_requests
    now, times = 0.0, []
    for _ in range(workload.num_requests):
        times.append(now)
        now += chooser.expovariate(workload.rate)
    return times
