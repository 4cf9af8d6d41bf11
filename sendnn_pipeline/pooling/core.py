"""The pooling engine in a rank: decide, compute, account."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
import psutil
import torch

from sendnn_pipeline.backends.base import CompiledProgram, Graph
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.group import close_group, open_group
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.threads import set_torch_threads
from sendnn_pipeline.errors import EngineError, RanksApartError
from sendnn_pipeline.messages import Cancel, FromEngine, Part, Request, RequestFailed, StepStarted
from sendnn_pipeline.models.shards import open_weights
from sendnn_pipeline.models.weights import CheckpointWeights
from sendnn_pipeline.pooling.accounting import Outcome, answers, step_done
from sendnn_pipeline.pooling.batcher import Batch, Batcher, Item
from sendnn_pipeline.pooling.door import Door
from sendnn_pipeline.pooling.graphs import PoolingGraphs, third_input
from sendnn_pipeline.pooling.leading import LeadingPoolingRunner, obey
from sendnn_pipeline.pooling.messages import PoolingRequest
from sendnn_pipeline.pooling.plan import pooling_plan
from sendnn_pipeline.pooling.runner import PoolingRunner
from sendnn_pipeline.pooling.step_cost import StepCost, fit_step_cost
from sendnn_pipeline.pooling.step_pool import StepPool, StepsHere
from sendnn_pipeline.programs.program import Program, Sizes
from sendnn_pipeline.programs.times import StepMs

log = logging.getLogger(__name__)


@dataclass
class PoolingCore:
    """Takes requests of token ids and sends parts of vectors, one Program a step, several steps at once."""

    run: Run
    weights: CheckpointWeights
    steps: StepPool[Outcome]
    runtime_bytes: int
    """Memory of the process before any weight was loaded."""
    clock: Callable[[], float] = time.monotonic
    graphs: PoolingGraphs | None = None
    """None once all Programs are installed."""
    world: World = field(default_factory=World)
    runner: PoolingRunner = field(init=False)
    """Of this rank; set by ``install``, as is the next."""
    leading: PoolingRunner | LeadingPoolingRunner = field(init=False)
    """Of all ranks."""
    batcher: Batcher = field(init=False)
    """Set by ``start``, as is the next."""
    send: Callable[[FromEngine], None] = field(init=False)
    remaining: dict[int, int] = field(default_factory=dict)
    """Items that each request still waits for."""
    recompiles: int = 0

    @property
    def door(self) -> Door:
        """What items must be."""
        return Door(self.run.model.vocab_size, self.run.plan.max_input_tokens)

    @property
    def wake(self) -> int:
        """A file descriptor that can be read when a step ended."""
        return self.steps.wake

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        assert self.graphs is not None, "all Programs are installed"
        return self.graphs.graph(program)

    def install(self, compiled: Mapping[Program, CompiledProgram]) -> None:
        """Bind the weights; the model that was traced goes."""
        calls = {program: made.bind(self.weights) for program, made in compiled.items()}
        self.runner = PoolingRunner(calls, self.run.model.pad_token_id, third_input(pooling_plan(self.run)))
        channel = self.world.channel
        self.leading = self.runner if channel is None else LeadingPoolingRunner(self.runner, channel)
        self.graphs = None

    def meet(self) -> None:
        """Form the group of all ranks, which a compiler asks for their number."""
        open_group(self.world)

    def obey(self, command: Any) -> None:
        """Compute this rank's part of a step that the first rank decided."""
        obey(self.runner, command)

    def rehearse(self, program: Program, sizes: Sizes, *, check: bool) -> float:
        """Run a full step as it runs beside others: on its share of the threads."""
        generator = torch.Generator().manual_seed(0)
        rows: Any = torch.randint(1, self.run.model.vocab_size, sizes, generator=generator).tolist()
        torch.set_num_threads(self.steps.threads_of_step)
        started = time.perf_counter()
        vectors, finite = self.runner.run(program, rows)
        ms = (time.perf_counter() - started) * 1000
        torch.set_num_threads(self.steps.threads)
        planned = (sizes[0], pooling_plan(self.run).output_size)
        # Counted here as well: what a Program says of itself is what is being checked.
        odd = max(finite.count(False), int((~vectors.isfinite()).any(dim=1).sum()))
        if check and (tuple(vectors.shape) != planned or odd):
            raise EngineError(
                f"{program.name} gave {tuple(vectors.shape)} numbers with {odd} rows not finite, and "
                f"{planned} are planned",
                hint="are the weights whole? model.dtype=float32 has the widest range",
            )
        return ms

    def start(self, times: Mapping[Program, StepMs], send: Callable[[FromEngine], None]) -> None:
        """Queue by what steps were measured to cost."""
        self.send = send
        costs = {program: _cost_of(program, measured) for program, measured in times.items()}
        self.batcher = Batcher(costs, pooling_plan(self.run).step_tokens)

    def take(self, message: Request | Cancel) -> None:
        """Queue the texts of a request, or forget one; what already runs is computed and dropped.

        A request with an item that no step takes is refused whole.
        """
        if isinstance(message, Cancel):
            self.batcher.cancel(message.request_id)
            self.remaining.pop(message.request_id, None)
            return
        try:
            request = msgspec.msgpack.decode(message.payload, type=PoolingRequest)
        except msgspec.MsgspecError as error:
            self.send(RequestFailed(message.request_id, "refused", -1, f"it is not a request of token ids: {error}"))
            return
        fault = self.door.find_fault(request.items, request.offsets)
        if fault is not None:
            self.send(RequestFailed(message.request_id, "refused", fault.index, fault.message))
            return
        offsets = request.offsets or [0] * len(request.items)
        now = self.clock()
        self.remaining[message.request_id] = len(request.items)
        self.batcher.add(
            Item(message.request_id, index, ids, message.deadline, now, offset, message.name)
            for index, (ids, offset) in enumerate(zip(request.items, offsets, strict=True))
        )

    def step(self) -> bool:
        """Account for the steps that are done, then decide on as many as there is room for."""
        for outcome in self.steps.collect():
            self._account(outcome)
        while self.steps.has_room and (batch := self._decide()) is not None:
            alone = not self.steps.running and not len(self.batcher)
            self.steps.start(partial(self._compute, batch), alone=alone)
        return self.steps.has_room and len(self.batcher) > 0

    def _decide(self) -> Batch | None:
        """Drop what is too late, and take the next batch out of the queue."""
        for request_id in self.batcher.expire(self.clock()):
            self.remaining.pop(request_id, None)
            self.send(RequestFailed(request_id, "deadline", -1, "the deadline passed before it was computed"))
        batch = self.batcher.next()
        if batch is not None:
            self.send(StepStarted(sorted({item.request_id for item in batch.items})))
        return batch

    def _compute(self, batch: Batch) -> Outcome:
        """Compute; the one part that runs in other threads."""
        started = self.clock()
        ids, offsets = [item.token_ids for item in batch.items], [item.offset for item in batch.items]
        try:
            vectors, finite = self.leading.run(batch.program, ids, offsets)
            return Outcome(batch, started, self.clock(), vectors.numpy(), finite)
        except BaseException as error:
            # One broken step must not take the other requests with it; a library that exits breaks its step, too.
            return Outcome(batch, started, self.clock(), error=error)

    def _account(self, outcome: Outcome) -> None:
        self.recompiles += outcome.recompiled
        _log_step(outcome)
        items = outcome.batch.items
        if isinstance(outcome.error, RanksApartError):
            raise outcome.error
        if outcome.error is not None and len(items) > 1:
            # Nobody knows which item broke it: each is computed once more, alone, and only the culprit fails.
            self.batcher.add_alone(item for item in items if item.request_id in self.remaining)
            messages: list[Part | RequestFailed] = []
        else:
            messages = list(answers(outcome, self.remaining))
        self.send(step_done(outcome, waiting=len(self.batcher), recompiles=self.recompiles))
        for message in messages:
            if isinstance(message, RequestFailed):
                self.batcher.cancel(message.request_id)
            self.send(message)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.steps.running and not len(self.batcher)

    def about(self) -> dict[str, Any]:
        """Return threads, versions and what the runtime takes."""
        return {
            "threads": self.steps.threads,
            "concurrent_steps": self.steps.size,
            "runtime_bytes": self.runtime_bytes,
            "torch": version("torch"),
            "transformers": version("transformers"),
        }

    def close(self) -> None:
        """End the threads of the steps, and leave the group of ranks."""
        self.steps.close()
        if self.world.channel is not None:
            close_group()


def open_core(run: Run, world: World) -> PoolingCore:
    """Return the engine of a run in this process; no weight is read before a Program is bound to it.

    Raises:
        ModelError: there is no way to divide the model among several ranks.
    """
    threads = set_torch_threads(run.threads)
    weights, shards = open_weights(run.model, run.config.model.dtype, world.rank, world.size)
    steps: StepPool[Outcome] = (StepPool if world.size == 1 else StepsHere)(run.plan.concurrent_steps, threads)
    runtime_bytes = psutil.Process().memory_info().rss
    return PoolingCore(run, weights, steps, runtime_bytes, graphs=PoolingGraphs(run, weights, shards), world=world)


def _log_step(outcome: Outcome) -> None:
    """Log a step that failed, with its traceback; every step where that is asked for."""
    level = logging.DEBUG if outcome.error is None else logging.ERROR
    if log.isEnabledFor(level):
        batch = outcome.batch
        names = sorted({item.request_name for item in batch.items})
        ms = (outcome.finished - outcome.started) * 1000
        fields = {"texts": len(batch.items), "tokens": batch.real_tokens, "ms": round(ms, 3), "request_ids": names}
        what = "ran" if outcome.error is None else "failed"
        log.log(level, "%s %s", batch.program.name, what, exc_info=outcome.error, extra={"fields": fields})


def _cost_of(program: Program, measured: StepMs) -> StepCost:
    return fit_step_cost(measured) if program.has_ranges else StepCost(fixed_ms=min(measured.values()))
