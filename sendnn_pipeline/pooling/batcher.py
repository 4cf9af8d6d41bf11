"""Which waiting texts run next, and in which Program. Decides only: no torch, no clock of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sendnn_pipeline.programs.program import PoolProgram

# How far behind the first text the batcher looks for texts of fitting length, in batches of the largest Program.
WINDOW_BATCHES = 8


@dataclass(frozen=True)
class Item:
    """One text that waits. Times are seconds of the monotonic clock."""

    request_id: int
    index: int
    token_ids: Sequence[int]
    deadline: float
    enqueued: float

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


class Batcher:
    """A queue that requests share fairly, each step filled up with texts that make it cheap.

    Virtual time runs in tokens: as many as each waiting request would have been served, had they shared evenly.
    A text is due at the virtual time of its arrival plus the tokens before it in its own request, so the tail
    of a large request lets later small ones pass. A due time never moves and virtual time always advances, so
    none starves. Every step takes the text that is due first. Among the Programs that fit it, the one with the
    least measured milliseconds per real token wins, each filled with the longest texts that it takes: short
    ones are left to shorter Programs.
    """

    def __init__(self, costs_ms: Mapping[PoolProgram, float]) -> None:
        self._costs_ms = dict(costs_ms)
        self._window = WINDOW_BATCHES * max(program.batch_size for program in costs_ms)
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
        candidates = [
            Batch(program, (first, *self._longest(others, program)))
            for program in self._costs_ms
            if program.prompt_len >= first.num_tokens
        ]
        best = min(candidates, key=lambda batch: self._costs_ms[batch.program] / max(1, batch.real_tokens))
        self._virtual_tokens += best.real_tokens / len({item.request_id for _, item in self._waiting})
        taken = set(map(id, best.items))
        self._waiting = [entry for entry in self._waiting if id(entry[1]) not in taken]
        return best

    @staticmethod
    def _longest(items: Sequence[Item], program: PoolProgram) -> Iterable[Item]:
        fitting = (item for item in items if item.num_tokens <= program.prompt_len)
        return islice(fitting, program.batch_size - 1)
