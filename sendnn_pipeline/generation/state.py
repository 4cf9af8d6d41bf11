"""The state of a scheduler: where every request is, and what it holds."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from sendnn_pipeline.generation.blocks import BlockPool
from sendnn_pipeline.generation.counts import Counts
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Finish, Request, Stage
from sendnn_pipeline.generation.rules import Rules, num_blocks_of

Queue: TypeAlias = OrderedDict[int, Request]


@dataclass
class State:
    """What decisions read, and accounting changes. Each unfinished request is in one queue, by its id."""

    rules: Rules
    pool: BlockPool
    counts: Counts = field(default_factory=Counts)
    waiting: Queue = field(default_factory=OrderedDict)
    """In order of arrival."""
    prefilling: Queue = field(default_factory=OrderedDict)
    """Admitted, with a part of the prompt still to compute, in order of admission."""
    decoding: Queue = field(default_factory=OrderedDict)
    """In the order of rows: the last prefilled first, the last resumed last."""
    paused: Queue = field(default_factory=OrderedDict)
    """In the order in which they may go on."""
    last_was_prefill: bool = False
    """Whether the last step was one of prefill."""
    tkv: int = 0
    """Of the last step; 0 where nothing ran."""

    @property
    def num_running(self) -> int:
        """Admitted requests that are not paused."""
        return len(self.prefilling) + len(self.decoding)

    @property
    def num_admitted(self) -> int:
        """Requests that hold blocks."""
        return self.num_running + len(self.paused)

    @property
    def running(self) -> list[Request]:
        """Those that run, with the prompts under way first after a prefill step, and last after a decode."""
        queues = (self.decoding, self.prefilling)
        return [request for queue in queues[:: -1 if self.last_was_prefill else 1] for request in queue.values()]

    def refuse(self, request: Request, reason: Refusal) -> None:
        """Note that the step goes on without a request."""
        request.refuse(reason)
        self.counts.refusals[reason] += 1

    def grow(self, request: Request, num_tokens: int) -> None:
        """Take what blocks a request lacks for ``num_tokens``, out of those that are reserved for it."""
        missing = num_blocks_of(num_tokens) - len(request.blocks)
        if missing > 0:
            request.num_reserved_blocks -= missing
            assert request.num_reserved_blocks >= 0, "a request takes more blocks than were reserved for it"
            request.blocks += self.pool.take(missing)
            request.block_table, request.padded_table = tuple(request.blocks), ()

    def move(self, request: Request, stage: Stage) -> None:
        """Put a request at the end of the queue of another stage."""
        del self._queue(request.stage)[request.request_id]
        self._queue(stage)[request.request_id] = request
        request.stage = stage

    def release(self, request: Request, finish: Finish) -> None:
        """Take a request out of its queue, and its blocks and reservation back."""
        del self._queue(request.stage)[request.request_id]
        self.pool.free(request.blocks)
        self.pool.unreserve(request.num_reserved_blocks)
        request.num_reserved_blocks = 0
        request.blocks, request.block_table, request.padded_table = [], (), ()
        request.stage, request.finish, request.refusal = Stage.FINISHED, finish, None

    def _queue(self, stage: Stage) -> Queue:
        if stage is Stage.DECODING:
            return self.decoding
        if stage is Stage.PREFILLING:
            return self.prefilling
        return self.paused if stage is Stage.PAUSED else self.waiting
