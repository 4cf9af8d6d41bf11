"""Which waiting texts run next, and in which Program. Decides only: no torch, no clock of its own."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from sendnn_pipeline.pooling.shapes import BATCH, LENGTH
from sendnn_pipeline.pooling.step_cost import StepCost
from sendnn_pipeline.pooling.steps import max_rows
from sendnn_pipeline.programs.program import Program, Sizes

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
    offset: int = 0
    """Where the second text of a pair begins, or a text behind its prompt."""
    request_name: str = ""
    """What its client calls the request, for logs."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Batch:
    """What runs in one step."""

    program: Program
    items: tuple[Item, ...]

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return sum(item.num_tokens for item in self.items)

    @property
    def sizes(self) -> Sizes:
        """Batch and length that are computed."""
        longest = max(item.num_tokens for item in self.items)
        sizes = self.program.sizes_for(**{BATCH: len(self.items), LENGTH: longest})
        assert sizes is not None, f"{self.program.name} does not take its batch"
        return sizes


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

    def __init__(self, costs: Mapping[Program, StepCost], step_tokens: int) -> None:
        self._costs = dict(costs)
        self._step_tokens = step_tokens
        self._window = WINDOW_BATCHES * max(program.dim(BATCH).max for program in costs)
        self._virtual_tokens = 0.0
        self._waiting: list[tuple[float, Item]] = []
        self._alone: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._alone)

    def add(self, request: Iterable[Item]) -> None:
        """Queue the texts of one request, each no longer than the longest Program."""
        due = self._virtual_tokens
        for item in request:
            self._waiting.append((due, item))
            due += item.num_tokens
        # Stable, and the list is two sorted runs: merging them is one pass.
        self._waiting.sort(key=lambda entry: entry[0])

    def add_alone(self, items: Iterable[Item]) -> None:
        """Queue texts of a step that failed again, before all others and each for a step of its own."""
        self._alone.extend(items)

    def cancel(self, request_id: int) -> int:
        """Forget a request and return how many of its texts waited."""
        return self._forget({request_id})

    def expire(self, now: float) -> set[int]:
        """Forget every request with a deadline that has passed, and return which."""
        waiting = chain(self._alone, (item for _, item in self._waiting))
        late = {item.request_id for item in waiting if item.deadline <= now}
        if late:
            self._forget(late)
        return late

    def _forget(self, request_ids: set[int]) -> int:
        before = len(self)
        self._waiting = [entry for entry in self._waiting if entry[1].request_id not in request_ids]
        self._alone = deque(item for item in self._alone if item.request_id not in request_ids)
        return before - len(self)

    def next(self) -> Batch | None:
        """Take the texts of the next step out of the queue; None when nothing waits."""
        if self._alone:
            return self._cheapest(self._alone.popleft(), [])
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
        """Return the cheapest batch per real token that has ``first``; ``others`` are longest first."""
        lengths = [item.num_tokens for item in others]
        sums = [0, *accumulate(lengths)]
        # Where the texts of each length begin; the lengths that a step may be padded to.
        begins = {length: index for index, length in reversed(list(enumerate(lengths)))}
        best_ms, choice = float("inf"), None
        for program, cost in self._costs.items():
            batch_dim, length_dim = program.dim(BATCH), program.dim(LENGTH)
            if length_dim.max < first.num_tokens:
                continue
            padded = {length_dim.max}
            if length_dim.min is not None:
                padded = {length for length in begins if first.num_tokens <= length <= length_dim.max}
                padded.add(first.num_tokens)
            for length in padded:
                begin = begins.get(length)
                if begin is None:
                    begin = bisect_left(lengths, -length, key=lambda tokens: -tokens)
                computed = max(length, length_dim.smallest)
                rows = max_rows(program, computed, self._step_tokens)
                end = min(len(lengths), begin + rows - 1)
                batch = max(1 + end - begin, batch_dim.smallest)
                real = first.num_tokens + sums[end] - sums[begin]
                ms = cost.ms(batch, computed) / max(1, real)
                if ms < best_ms:
                    best_ms, choice = ms, (program, begin, end)
        assert choice is not None, "a text longer than every Program was queued"
        program, begin, end = choice
        return Batch(program, (first, *others[begin:end]))
