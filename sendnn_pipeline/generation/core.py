"""The generation engine in a rank: decide, compute, account."""

import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import msgspec
import torch

from sendnn_pipeline.backends.base import CompiledProgram, Graph
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.group import close_group, open_group
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.arrivals import Arrivals
from sendnn_pipeline.generation.compute import Computed, compute
from sendnn_pipeline.generation.content import NO_MARKS
from sendnn_pipeline.generation.door import Door
from sendnn_pipeline.generation.grammar.grammars import Grammars, open_grammars
from sendnn_pipeline.generation.graphs import GenerationGraphs
from sendnn_pipeline.generation.kv_cache import FreshBlocks
from sendnn_pipeline.generation.leading import LeadingRunner, obey
from sendnn_pipeline.generation.measures import Growth
from sendnn_pipeline.generation.messages import GenerationRequest, StepTime
from sendnn_pipeline.generation.pictured import Pictured
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.rehearsal import rehearse
from sendnn_pipeline.generation.row_table import FollowingTable, RowTable
from sendnn_pipeline.generation.runner import GenerationRunner, StepRunner, bind_runner
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.sequence import Sequence, stops
from sendnn_pipeline.generation.step_report import step_done
from sendnn_pipeline.generation.steps import PrefillStep, Step
from sendnn_pipeline.messages import Cancel, FromEngine, Measured, Part, Request, RequestFailed, StepStarted
from sendnn_pipeline.models.weights import CheckpointWeights
from sendnn_pipeline.programs.program import Program, Sizes
from sendnn_pipeline.programs.times import StepMs


@dataclass
class GenerationCore:
    """Takes prompts and sends tokens, one step at a time."""

    run: Run
    weights: CheckpointWeights
    caches: Several[Several[torch.Tensor]]
    """Keys and values of each layer."""
    threads: int
    runtime_bytes: int
    """Memory of the process before any weight was loaded."""
    wake: int
    world: World = field(default_factory=World)
    clock: Callable[[], float] = time.monotonic
    graphs: GenerationGraphs | None = None
    """None once all Programs are installed."""
    runner: StepRunner = field(init=False)
    """Set by ``install``."""
    layered: GenerationRunner = field(init=False)
    """The same, where the model is taken apart at its layers."""
    send: Callable[[FromEngine], None] = field(init=False)
    """Set by ``start``."""
    scheduler: Scheduler = field(init=False)
    grammars: Grammars = field(init=False)
    """Of which nothing runs before the first one is asked for."""
    open_images: Callable[[], tuple[RowTable, Pictured | None]] | None = None
    """Of a model that reads images; several ranks call it once they have met."""
    images: RowTable | None = None
    """Their rows, which the runner reads."""
    pictured: Pictured | None = None
    """What fills it, in the first rank."""
    fresh: FreshBlocks | None = None
    growth: Growth = field(default_factory=Growth)
    sequences: dict[int, Sequence] = field(default_factory=dict)
    """By the scheduler's ids."""
    arrivals: Arrivals = field(init=False)
    """Makes sequences."""

    def __post_init__(self) -> None:
        self.grammars = open_grammars(self.run, self.wake)

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        assert self.graphs is not None, "all Programs are installed"
        return self.graphs.graph(program)

    def install(self, compiled: Mapping[Program, CompiledProgram]) -> None:
        """Bind the weights; the model that was traced goes."""
        if self.pictured is not None:
            self.pictured.desk.open()
        rows = None if self.images is None else self.images.rows
        self.runner = self.layered = bind_runner(self.run, compiled, self.weights, self.caches, rows)
        if self.world.channel is not None:
            self.runner = LeadingRunner(self.layered, self.world.channel)
        self.graphs = None

    def meet(self) -> None:
        """Form the group of all ranks, which a compiler asks for their number."""
        open_group(self.world)
        self.place_images()

    def place_images(self) -> None:
        """Have the device ready that encodes images."""
        if self.open_images is not None:
            self.images, self.pictured = self.open_images()

    def obey(self, command: Any) -> None:
        """Compute this rank's part of a step that the first rank decided."""
        obey(self.layered, self.images if isinstance(self.images, FollowingTable) else None, command)

    def rehearse(self, program: Program, sizes: Sizes, *, check: bool) -> float:
        """Run a full step on made-up tokens."""
        return rehearse(self.layered, self.run.model.vocab_size, program, sizes, check=check)

    def start(self, times: Mapping[Program, StepMs], send: Callable[[FromEngine], None]) -> None:
        """Begin with nothing to do; what warmup wrote is finite, and masked until it is written again."""
        self.send, self.scheduler = send, Scheduler(generation_plan(self.run).rules)
        self.arrivals = Arrivals(self.scheduler, self.grammars, self.run.model.vocab_size)

    def take(self, message: Request | Cancel) -> None:
        """Queue the sequences of a request, refuse it whole where no step takes it, or forget one."""
        if isinstance(message, Cancel):
            self._forget(message.request_id, message.item)
            return
        request = msgspec.msgpack.decode(message.payload, type=GenerationRequest)
        if (fault := Door(self.run.model.vocab_size, self.scheduler.rules).find_fault(request)) is not None:
            self.send(RequestFailed(message.request_id, "refused", fault.index, fault.message))
            return
        marks = NO_MARKS
        if self.pictured is not None and request.images:
            marks = self.pictured.begin(message.request_id, request.prompts[0], request.images)
        self.sequences |= self.arrivals.begin(message, request, marks, self.clock())

    def _admit_guided(self) -> None:
        """Let the sequences run whose grammars are ready, and refuse those whose grammars cannot be."""
        for scheduler_id in self.grammars.take_ready():
            if error := self.grammars.mask(scheduler_id).error if scheduler_id in self.sequences else "":
                self._fail(scheduler_id, error, reason="refused")
            self._arrived(scheduler_id)

    def _admit_pictured(self, pictured: Pictured) -> None:
        """Let the sequences run whose images are encoded."""
        for ids, fault in pictured.take_ready(self._of):
            for scheduler_id in ids:
                if fault:
                    # All of a request fail with its first.
                    self._fail(scheduler_id, fault)
                self._arrived(scheduler_id)

    def _arrived(self, scheduler_id: int) -> None:
        """Note that something is made that a sequence waits for."""
        sequence = self.sequences.get(scheduler_id)
        if sequence is not None:
            sequence.num_awaited -= 1
            if not sequence.num_awaited:
                self.scheduler.set_ready(scheduler_id)

    def step(self) -> bool:
        """Decide on a step, compute it, and account for it."""
        self._expire()
        self._admit_guided()
        if self.pictured is not None:
            self._admit_pictured(self.pictured)
        step = self.scheduler.next_step()
        if step is None:
            encodes = self.pictured is not None and self.pictured.desk.is_busy
            return encodes or (self.fresh is not None and self.fresh.write(self.scheduler.state.pool.first_unused))
        began = self.clock()
        self.send(StepStarted(sorted({self.sequences[one].request_id for one in step.request_ids})))
        computed = compute(self.runner, step, self.sequences)
        self._account(step, computed, began, self.clock())
        return not self.scheduler.is_idle

    def _account(self, step: Step, computed: Computed, began: float, ended: float) -> None:
        prefill, state = isinstance(step, PrefillStep), self.scheduler.state
        plan = self.runner.plan
        of_kind = plan.prefill if prefill else plan.decode_one if len(step.request_ids) == 1 else plan.decode
        program = of_kind(plan.layer_kinds[0])
        taken = StepTime(began, ended - began, step.tkv)
        for scheduler_id, sequence in self.sequences.items():
            if scheduler_id in step.request_ids:
                sequence.ran(taken)
            else:
                sequence.waited(taken, prefill=prefill)
        for scheduler_id, failure in computed.failed.items():
            self._fail(scheduler_id, *failure)
        tokens = [computed.sampled[one].token_id if one in computed.sampled else -1 for one in step.sampled]
        stopped = [
            one for one, token in zip(step.sampled, tokens, strict=True) if stops(self.sequences.get(one), token)
        ]
        got = self.scheduler.finish_step(step, tokens, stopped)
        self.send(step_done(step, program, (began, ended), state, self.growth.measures(state, len(got))))
        if self.pictured is not None and isinstance(step, PrefillStep):
            self.pictured.computed(step)
        for scheduled in got:
            sequence, sampled = self.sequences[scheduled.request_id], computed.sampled[scheduled.request_id]
            output = sequence.output(sampled.token_id, sampled.logprobs)
            if output.finish:
                self.sequences.pop(scheduled.request_id).close()
            payload = msgspec.Raw(msgspec.msgpack.encode(output))
            ended_all = bool(output.finish) and not self._of(sequence.request_id)
            times = (sequence.enqueued, began, ended)
            self.send(Part(sequence.request_id, payload, int(bool(output.finish)), ended_all, program.name, 0, *times))

    def _of(self, request_id: int) -> list[int]:
        return [one for one, found in self.sequences.items() if found.request_id == request_id]

    def _fail(self, one: int, message: str, detail: str = "", reason: Literal["failed", "refused"] = "failed") -> None:
        if (sequence := self.sequences.get(one)) is not None:
            blocks = [block for other in self._of(sequence.request_id) for block in self.scheduler.discard(other)]
            self.runner.clear(blocks)
            self._forget(sequence.request_id)
            self.send(RequestFailed(sequence.request_id, reason, sequence.prompt_index, message, detail))

    def _forget(self, request_id: int, index: int = -1) -> None:
        """Free the blocks of one sequence of a request, or of all, and tell of it: a step may not follow."""
        for scheduler_id in [one for one in self._of(request_id) if index in (-1, self.sequences[one].index)]:
            self.sequences.pop(scheduler_id).close()
            self.scheduler.cancel(scheduler_id)
            if self.pictured is not None:
                self.pictured.forget(request_id, scheduler_id, others=bool(self._of(request_id)))
        self.send(Measured(self.growth.measures(self.scheduler.state, 0)))

    def _expire(self) -> None:
        now = self.clock()
        for request_id in {found.request_id for found in self.sequences.values() if found.deadline < now}:
            self._forget(request_id)
            self.send(RequestFailed(request_id, "deadline", -1, "the deadline passed before it was computed"))

    @property
    def idle(self) -> bool:
        """Whether no sequence is left."""
        return self.scheduler.is_idle

    def about(self) -> dict[str, Any]:
        """Return threads, versions and what the runtime takes."""
        facts = {"threads": self.threads, "runtime_bytes": self.runtime_bytes}
        facts |= {} if self.images is None else {"encoder_threads": self.run.encoder_threads}
        return facts | {name: version(name) for name in ("torch", "transformers")}

    def close(self) -> None:
        """End what works beside it, then close the descriptor that the grammars write to."""
        self.grammars.close()
        if self.pictured is not None:
            self.pictured.desk.close()
        os.close(self.wake)
        if self.world.channel is not None:
            close_group()
