"""From a batch and what came of it to messages. Accounts only."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from sendnn_pipeline.messages import Part, RequestFailed, StepDone
from sendnn_pipeline.pooling.batcher import Batch
from sendnn_pipeline.pooling.messages import PoolingOutput

MAX_ERROR_LENGTH = 500


@dataclass(frozen=True)
class Outcome:
    """What computing a batch gave: vectors, or an error."""

    batch: Batch
    started: float
    finished: float
    vectors: npt.NDArray[np.float32] | None = None
    """``[items, size]``."""
    finite: list[bool] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def recompiled(self) -> bool:
        """Whether it failed since something would have been compiled."""
        return self.error is not None and "recompile" in str(self.error)


def step_done(outcome: Outcome, *, waiting: int, recompiles: int) -> StepDone:
    """Return the account of a step."""
    batch, length = outcome.batch.sizes
    return StepDone(
        program=outcome.batch.program.name,
        num_items=len(outcome.batch.items),
        max_items=batch,
        real_tokens=outcome.batch.real_tokens,
        computed_tokens=batch * length,
        started=outcome.started,
        finished=outcome.finished,
        waiting=waiting,
        recompiles=recompiles,
    )


def answers(outcome: Outcome, remaining: dict[int, int]) -> Iterator[Part | RequestFailed]:
    """Yield a part for every request of the batch that went well, and a failure for each that did not.

    Args:
        outcome: of the batch.
        remaining: items that each request still waits for, this batch's included; brought up to date. A request that
            is not in it was forgotten meanwhile.
    """
    batch = outcome.batch
    by_request: dict[int, list[int]] = {}
    for row, item in enumerate(batch.items):
        if item.request_id in remaining:
            by_request.setdefault(item.request_id, []).append(row)
    if outcome.error is not None:
        reason = " ".join(str(outcome.error).split())[:MAX_ERROR_LENGTH]
        detail = f"{batch.program.name} failed: {type(outcome.error).__name__}: {reason}"
        for request_id, rows in by_request.items():
            del remaining[request_id]
            yield RequestFailed(request_id, "failed", batch.items[rows[0]].index, "could not be computed", detail)
        return
    assert outcome.vectors is not None
    _, length = batch.sizes
    for request_id, rows in by_request.items():
        broken = next((row for row in rows if not outcome.finite[row]), None)
        if broken is not None:
            index = batch.items[broken].index
            del remaining[request_id]
            yield RequestFailed(request_id, "failed", index, "gave a vector that is not finite")
            continue
        items = [batch.items[row] for row in rows]
        remaining[request_id] -= len(items)
        last = not remaining[request_id]
        if last:
            del remaining[request_id]
        vectors = outcome.vectors[rows].astype("<f4", copy=False)
        output = PoolingOutput([item.index for item in items], vectors.shape[1], vectors.tobytes())
        yield Part(
            request_id=request_id,
            payload=msgspec.Raw(msgspec.msgpack.encode(output)),
            num_items=len(items),
            last=last,
            program=batch.program.name,
            padding_tokens=sum(length - item.num_tokens for item in items),
            enqueued=items[0].enqueued,
            started=outcome.started,
            finished=outcome.finished,
        )
