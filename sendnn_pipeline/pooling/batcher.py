"""Which waiting texts run next, and in which Program. Decides only: no torch, no clock of its own."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sendnn_pipeline.config.step_cost import StepCost
from sendnn_pipeline.programs.program import PoolProgram

# How far behind the first text the batcher looks for texts of fitting length, in batches of the largest Program.
WINDOW_BATCHES = 8


@dataclass(frozen=True)
class Item:
    """One text, or pair of texts, that waits. Times are seconds of the monotonic clock."""

    request_id: int
    index: int
    token_ids: Sequence[int]
    deadline: float
    enqueued: float
    second_at: int = 0
    """Where the second text of a pair begins."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Batch:
    """What runs in one step."""

    program: PoolProgram
    items: tuple[Item, ...]

    @property
    def real_tokens(self) -> int:
        """Tokens that are no padding."""
        return sum(item.num_tokens for item in self.items)

    @property
    def dims(self) -> tuple[int, int]:
        """Batch and length that are computed."""
        return self.program.dims(len(self.items), max(item.num_tokens for item in self.items))


class Batcher:
    """A queue that requests share fairly, each step filled up with texts that make it cheap.

    Virtual time runs in tokens: as many as each waiting request would have been served, had they shared evenly.
    A text is due at the virtual time of its arrival plus the tokens before it in its own request, so the tail
    of a large request lets later small ones pass. A due time never moves and virtual time always advances, so
    none starves. Every step takes the text that is due first. Of the Programs that fit it, and of the lengths to
    which a ranged one may be padded, the one with the least milliseconds per real token wins, each filled with the
    longest texts that it takes: short ones are left to shorter steps.

    Args:
        costs: what a step of each Program costs.
        step_tokens: the most tokens of a step whose batch is free, padding included.
    """

    def __init__(self, costs: Mapping[PoolProgram, StepCost], step_tokens: int) -> None:
        self._costs = dict(costs)
        self._step_tokens = step_tokens
        self._window = WINDOW_BATCHES * max(program.batch_size for program in costs)
        self._virtual_tokens = 0.0
        self._waiting: list[tuple[float, Item]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Iterable[Item]) -> None:
        """Queue the texts of one request, each no longer than the longest Program."""
        due = self._virtual_tokens
        for item in request:
            self._waiting.append((due, item))
            due += item.num_tokens
        # Stable, and the list is two sorted runs: merging them is one pass.
        self._waiting.sort(key=lambda entry: entry[0])

    def cancel(self, request_id: int) -> int:
        """Forget a request and return how many of its texts waited."""
        before = len(self._waiting)
        self._waiting = [entry for entry in self._waiting if entry[1].request_id != request_id]
        return before - len(self._waiting)

    def expire(self, now: float) -> set[int]:
        """Forget every request with a deadline that has passed, and return which."""
        late = {item.request_id for _, item in self._waiting if item.deadline <= now}
        if late:
            self._waiting = [entry for entry in self._waiting if entry[1].request_id not in late]
        return late

    def next(self) -> Batch | None:
        """Take the texts of the next step out of the queue; None when nothing waits."""
        if not self._waiting:
            return None
        first, *window = [item for _, item in self._waiting[: self._window]]
        others = sorted(window, key=lambda item: -item.num_tokens)
        best = self._cheapest(first, others)
        self._virtual_tokens += best.real_tokens / len({item.request_id for _, item in self._waiting})
        taken = set(map(id, best.items))
        self._waiting = [entry for entry in self._waiting if id(entry[1]) not in taken]
        return best

    def _cheapest(self, first: Item, others: Sequence[Item]) -> Batch:
        """Return the batch with ``first`` that costs the least per real token; ``others`` are longest first."""
        lengths = [item.num_tokens for item in others]
        sums = [0, *accumulate(lengths)]
        # Where the texts of each length begin; the lengths that a step may be padded to.
        begins = {length: place for place, length in reversed(list(enumerate(lengths)))}
        least, choice = float("inf"), None
        for program, cost in self._costs.items():
            if program.prompt_len < first.num_tokens:
                continue
            padded = {program.prompt_len}
            if program.least_len is not None:
                padded = {length for length in begins if first.num_tokens <= length <= program.prompt_len}
                padded.add(first.num_tokens)
            for length in padded:
                begin = begins.get(length)
                if begin is None:
                    begin = bisect_left(lengths, -length, key=lambda held: -held)
                rows = program.rows_at(max(length, program.least_len or 1), self._step_tokens)
                end = min(len(lengths), begin + rows - 1)
                batch, computed = program.dims(1 + end - begin, max(first.num_tokens, length))
                real = first.num_tokens + sums[end] - sums[begin]
                ms = cost.ms(batch, computed) / max(1, real)
                if ms < least:
                    least, choice = ms, (program, begin, end)
        assert choice is not None, "a text longer than every Program was queued"
        program, begin, end = choice
        return Batch(program, (first, *others[begin:end]))
