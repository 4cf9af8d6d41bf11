"""The generation engine in a rank: decide, compute, account."""

import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from typing import Any, Literal

import msgspec
import psutil
import torch

from sendnn_pipeline.backends.base import CompiledProgram, Graph
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.threads import set_torch_threads
from sendnn_pipeline.generation.compute import Computed, compute
from sendnn_pipeline.generation.grammar.grammars import Grammars, open_grammars
from sendnn_pipeline.generation.graphs import GenerationGraphs
from sendnn_pipeline.generation.leading import LeadingRunner, obey
from sendnn_pipeline.generation.measures import Growth
from sendnn_pipeline.generation.messages import GenerationRequest, StepTime
from sendnn_pipeline.generation.model.group import close_group, open_group
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.rehearsal import rehearse
from sendnn_pipeline.generation.runner import GenerationRunner, StepRunner, bind_runner, make_caches
from sendnn_pipeline.generation.sampling.guide import begin_guide
from sendnn_pipeline.generation.sampling.processors import make_processors
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.sequence import Sequence
from sendnn_pipeline.generation.steps import PrefillStep, Step
from sendnn_pipeline.messages import Cancel, FromEngine, Part, Request, RequestFailed, StepDone, StepStarted
from sendnn_pipeline.models.shards import ShardedWeights, read_shard_plan
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
    growth: Growth = field(default_factory=Growth)
    sequences: dict[int, Sequence] = field(default_factory=dict)
    """By the scheduler's ids."""
    ids: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.grammars = open_grammars(self.run, self.wake)

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        assert self.graphs is not None, "all Programs are installed"
        return self.graphs.graph(program)

    def install(self, compiled: Mapping[Program, CompiledProgram]) -> None:
        """Bind the weights; the model that was traced goes."""
        self.runner = self.layered = bind_runner(self.run, compiled, self.weights, self.caches)
        if self.world.channel is not None:
            # Not before: ranks that load in turns do not wait for each other while they do.
            open_group(self.world)
            self.runner = LeadingRunner(self.layered, self.world.channel)
        self.graphs = None

    def obey(self, command: Any) -> None:
        """Compute this rank's part of a step that the first rank decided."""
        obey(self.layered, command)

    def rehearse(self, program: Program, sizes: Sizes, *, check: bool) -> float:
        """Run a full step on made-up tokens."""
        return rehearse(self.layered, self.run.model.vocab_size, program, sizes, check=check)

    def start(self, times: Mapping[Program, StepMs], send: Callable[[FromEngine], None]) -> None:
        """Begin with nothing to do; what warmup wrote is finite, and masked until it is written again."""
        self.send, self.scheduler = send, Scheduler(generation_plan(self.run).rules)

    def take(self, message: Request | Cancel) -> None:
        """Queue the sequences of a request, or forget one."""
        if isinstance(message, Cancel):
            self._forget(message.request_id, message.item)
            return
        request, now = msgspec.msgpack.decode(message.payload, type=GenerationRequest), self.clock()
        sampling = request.sampling
        for index, (prompt, most) in enumerate(zip(request.prompts, request.max_tokens, strict=True)):
            for answer in range(request.n):
                scheduler_id = next(self.ids)
                # What is reported of every token of a prompt cannot be taken from the cache.
                salt = request.salt if sampling.prompt_logprobs < 0 else scheduler_id.to_bytes(8, "little")
                seeded = msgspec.structs.replace(sampling, seed=sampling.seed + answer)
                guide = begin_guide(self.grammars, scheduler_id, sampling.grammar)
                self.sequences[scheduler_id] = Sequence(
                    message.request_id,
                    index * request.n + answer,
                    index,
                    seeded,
                    self.scheduler.add(scheduler_id, prompt, most, salt=salt, is_ready=guide is None),
                    make_processors(seeded, prompt, self.run.model.vocab_size, guide),
                    now,
                    message.deadline,
                )

    def _admit_guided(self) -> None:
        """Let the sequences run whose grammars are ready, and refuse those whose grammars cannot be."""
        for scheduler_id in self.grammars.take_ready():
            error = self.grammars.mask(scheduler_id).error if scheduler_id in self.sequences else ""
            if error:
                self._fail(scheduler_id, error, "refused")
            self.scheduler.set_ready(scheduler_id)

    def step(self) -> bool:
        """Decide on a step, compute it, and account for it."""
        self._expire()
        self._admit_guided()
        step = self.scheduler.next_step()
        if step is None:
            return False
        began = self.clock()
        self.send(StepStarted(sorted({self.sequences[one].request_id for one in step.request_ids})))
        computed = compute(self.runner, step, self.sequences)
        self._account(step, computed, began, self.clock())
        return not self.scheduler.is_idle

    def _account(self, step: Step, computed: Computed, began: float, ended: float) -> None:
        prefill = isinstance(step, PrefillStep)
        plan = self.runner.plan
        program = (plan.prefill if prefill else plan.decode)(plan.layer_kinds[0])
        taken = StepTime(began, ended - began, step.tkv)
        for scheduler_id, sequence in self.sequences.items():
            if scheduler_id in step.request_ids:
                sequence.ran(taken)
            else:
                sequence.waited(taken, prefill=prefill)
        for scheduler_id, reason in computed.failed.items():
            self._fail(scheduler_id, reason)
        chosen = [computed.sampled.get(scheduler_id) for scheduler_id in step.sampled]
        tokens = [-1 if one is None else one.token_id for one in chosen]
        stopped = [one for one, token in zip(step.sampled, tokens, strict=True) if self._stops(one, token)]
        got = self.scheduler.finish_step(step, tokens, stopped)
        self.send(self._step_done(step, program, began, ended, len(got)))
        for scheduled in got:
            sequence, sampled = self.sequences[scheduled.request_id], computed.sampled[scheduled.request_id]
            output = sequence.output(sampled.token_id, sampled.logprobs)
            if output.finish:
                self.sequences.pop(scheduled.request_id).close()
            payload = msgspec.Raw(msgspec.msgpack.encode(output))
            ended_all = bool(output.finish) and not self._of(sequence.request_id)
            num_done = int(bool(output.finish))
            times = (sequence.enqueued, began, ended)
            self.send(Part(sequence.request_id, payload, num_done, ended_all, program.name, 0, *times))

    def _stops(self, scheduler_id: int, token: int) -> bool:
        sequence = self.sequences.get(scheduler_id)
        return sequence is not None and token in sequence.sampling.stop_token_ids

    def _step_done(self, step: Step, program: Program, began: float, ended: float, generated: int) -> StepDone:
        if isinstance(step, PrefillStep):
            tokens, rows, most = sum(len(chunk.token_ids) for chunk in step.chunks), len(step.chunks), len(step.chunks)
        else:
            tokens = rows = len(step.request_ids)
            most = self.scheduler.rules.max_num_seqs
        state = self.scheduler.state
        not_prompt = 0 if isinstance(step, PrefillStep) else tokens
        measures = self.growth.measures(state, generated)
        return StepDone(
            program.name, rows, most, tokens, tokens, began, ended, len(state.waiting), 0, not_prompt, measures
        )

    def _of(self, request_id: int) -> list[int]:
        return [one for one, found in self.sequences.items() if found.request_id == request_id]

    def _fail(self, scheduler_id: int, message: str, reason: Literal["failed", "refused"] = "failed") -> None:
        sequence = self.sequences.get(scheduler_id)
        if sequence is not None:
            blocks = [block for one in self._of(sequence.request_id) for block in self.scheduler.discard(one)]
            self.runner.clear(blocks)
            self._forget(sequence.request_id)
            self.send(RequestFailed(sequence.request_id, reason, sequence.prompt_index, message))

    def _forget(self, request_id: int, index: int = -1) -> None:
        """Free the blocks of one sequence of a request, or of all of them."""
        for scheduler_id in [one for one in self._of(request_id) if index in (-1, self.sequences[one].index)]:
            self.sequences.pop(scheduler_id).close()
            self.scheduler.cancel(scheduler_id)

    def _expire(self) -> None:
        now = self.clock()
        late = {found.request_id for found in self.sequences.values() if found.deadline < now}
        for request_id in late:
            self._forget(request_id)
            self.send(RequestFailed(request_id, "deadline", -1, "the deadline passed before it was computed"))

    @property
    def idle(self) -> bool:
        """Whether no sequence is left."""
        return self.scheduler.is_idle

    def about(self) -> dict[str, Any]:
        """Return threads, versions and what the runtime takes."""
        return {
            "threads": self.threads,
            "runtime_bytes": self.runtime_bytes,
            "torch": version("torch"),
            "transformers": version("transformers"),
        }

    def close(self) -> None:
        """End the grammars, then close the descriptor that they write to."""
        self.grammars.close()
        os.close(self.wake)
        if self.world.channel is not None:
            close_group()


def open_core(run: Run, world: World) -> GenerationCore:
    """Return the engine of a run in this process; no weight is read before a Program is bound to it."""
    threads = set_torch_threads(run.threads)
    weights, shards = CheckpointWeights(run.model.weight_files, run.config.model.dtype), None
    if world.size > 1:
        shards = read_shard_plan(run.model.folder)
        files, dtype = run.model.weight_files, run.config.model.dtype
        weights = ShardedWeights(files, dtype, shards, world.rank, world.size)
    runtime_bytes = psutil.Process().memory_info().rss
    caches = make_caches(run)
    graphs = GenerationGraphs(run, weights, caches[0], shards)
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    return GenerationCore(run, weights, caches, threads, runtime_bytes, wake, world, graphs=graphs)
