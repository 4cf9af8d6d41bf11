"""Which waiting texts run next, and in which Program. Decides only: no torch, no clock of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sendnn_pipeline.programs.program import PoolProgram

# How far behind the oldest text the batcher looks for texts of fitting length, in batches of the largest Program.
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
    """A queue that is served oldest first, filled up with texts that make the step cheap.

    Every step takes the oldest text, so none starves. Among the Programs that fit it, the one with the least
    measured milliseconds per real token wins, each filled with the longest texts that it takes: short ones are left to
    shorter Programs.
    """

    def __init__(self, programs: Sequence[PoolProgram], costs_ms: Mapping[PoolProgram, float]) -> None:
        self._programs = tuple(programs)
        self._costs_ms = dict(costs_ms)
        self._window = WINDOW_BATCHES * max(program.batch_size for program in programs)
        self._waiting: dict[tuple[int, int], Item] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, items: Iterable[Item]) -> None:
        """Queue texts, each no longer than the longest Program."""
        self._waiting.update({(item.request_id, item.index): item for item in items})

    def cancel(self, request_id: int) -> int:
        """Forget a request and return how many of its texts waited."""
        gone = [key for key in self._waiting if key[0] == request_id]
        for key in gone:
            del self._waiting[key]
        return len(gone)

    def expire(self, now: float) -> set[int]:
        """Forget every request with a deadline that has passed, and return which."""
        late = {item.request_id for item in self._waiting.values() if item.deadline <= now}
        for request_id in late:
            self.cancel(request_id)
        return late

    def next(self) -> Batch | None:
        """Take the texts of the next step out of the queue; None when nothing waits."""
        if not self._waiting:
            return None
        window = list(islice(self._waiting.values(), self._window))
        oldest, others = window[0], sorted(window[1:], key=lambda item: -item.num_tokens)
        candidates = [
            Batch(program, (oldest, *self._longest(others, program)))
            for program in self._programs
            if program.prompt_len >= oldest.num_tokens
        ]
        best = min(candidates, key=lambda batch: self._costs_ms[batch.program] / max(1, batch.real_tokens))
        for item in best.items:
            del self._waiting[item.request_id, item.index]
        return best

    @staticmethod
    def _longest(items: Sequence[Item], program: PoolProgram) -> Iterable[Item]:
        fitting = (item for item in items if item.num_tokens <= program.prompt_len)
        return islice(fitting, program.batch_size - 1)
