"""The pooling engine: decide, compute, account."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from sendnn_pipeline.messages import Cancel, FromEngine, Refused, StepDone, StepStarted, Submit, Vectors
from sendnn_pipeline.pooling.batcher import Batch, Batcher, Item
from sendnn_pipeline.pooling.runner import PoolingRunner


@dataclass(frozen=True)
class Outcome:
    """What computing a batch gave."""

    started: float
    finished: float
    vectors: torch.Tensor | None = None
    finite: list[bool] = field(default_factory=list)
    error: Exception | None = None


@dataclass
class PoolingEngine:
    """Takes requests of token ids and gives messages of vectors, one Program a step."""

    runner: PoolingRunner
    batcher: Batcher
    emit: Callable[[FromEngine], None]
    clock: Callable[[], float] = time.monotonic
    recompiles: int = field(default=0, init=False)
    num_steps: int = field(default=0, init=False)

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return len(self.batcher)

    def submit(self, request: Submit) -> None:
        """Queue the texts of a request."""
        now = self.clock()
        second_at = request.second_at or [0] * len(request.items)
        self.batcher.add(
            Item(request.request_id, index, ids, request.deadline, now, second)
            for index, (ids, second) in enumerate(zip(request.items, second_at, strict=True))
        )

    def cancel(self, request: Cancel) -> None:
        """Forget a request; what already runs is computed and dropped by the other side."""
        self.batcher.cancel(request.request_id)

    def step(self) -> None:
        """Run one Program to its end, if anything waits."""
        batch = self.begin()
        if batch is not None:
            self.finish(batch, self.compute(batch))

    def begin(self) -> Batch | None:
        """Decide: drop what is too late, and take the next batch out of the queue."""
        for request_id in self.batcher.expire(self.clock()):
            self.emit(Refused(request_id, "deadline", -1, "the deadline passed before it was computed"))
        batch = self.batcher.next()
        if batch is not None:
            self.emit(StepStarted(sorted({item.request_id for item in batch.items})))
        return batch

    def compute(self, batch: Batch) -> Outcome:
        """Compute; the one part that may run in another thread, several at once."""
        started = self.clock()
        try:
            vectors, finite = self.runner.run(
                batch.program, [item.token_ids for item in batch.items], [item.second_at for item in batch.items]
            )
        except Exception as error:
            # One broken step must not take the other requests with it.
            return Outcome(started, self.clock(), error=error)
        return Outcome(started, self.clock(), vectors, finite)

    def finish(self, batch: Batch, outcome: Outcome) -> None:
        """Account, and emit what came of it."""
        self.num_steps += 1
        self._account(batch, outcome.started, outcome.finished)
        if outcome.error is not None:
            self._refuse(batch, outcome.error)
        else:
            assert outcome.vectors is not None
            self._answer(batch, outcome.vectors, outcome.finite, outcome.started, outcome.finished)

    def _refuse(self, batch: Batch, error: Exception) -> None:
        if "recompile" in str(error):
            self.recompiles += 1
        message = f"{batch.program.name} failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        for request_id in {item.request_id for item in batch.items}:
            self.batcher.cancel(request_id)
            self.emit(Refused(request_id, "failed", -1, message))

    def _account(self, batch: Batch, started: float, finished: float) -> None:
        rows, length = batch.dims
        self.emit(
            StepDone(
                program=batch.program.name,
                batch_size=rows,
                num_items=len(batch.items),
                real_tokens=batch.real_tokens,
                computed_tokens=rows * length,
                started=started,
                finished=finished,
                waiting=self.waiting,
                recompiles=self.recompiles,
            )
        )

    def _answer(self, batch: Batch, vectors: torch.Tensor, finite: list[bool], started: float, finished: float) -> None:
        _, length = batch.dims
        by_request: dict[int, list[int]] = {}
        for place, item in enumerate(batch.items):
            by_request.setdefault(item.request_id, []).append(place)
        for request_id, places in by_request.items():
            broken = next((place for place in places if not finite[place]), None)
            if broken is not None:
                self.batcher.cancel(request_id)
                index = batch.items[broken].index
                self.emit(Refused(request_id, "failed", index, "the model gave a vector that is not finite"))
                continue
            items = [batch.items[place] for place in places]
            self.emit(
                Vectors(
                    request_id=request_id,
                    indices=[item.index for item in items],
                    dimensions=vectors.shape[1],
                    data=vectors[places].numpy().astype("<f4", copy=False).tobytes(),
                    program=batch.program.name,
                    padding=sum(length - item.num_tokens for item in items),
                    enqueued=items[0].enqueued,
                    started=started,
                    finished=finished,
                )
            )
