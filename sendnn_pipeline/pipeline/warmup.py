"""Warmup: the life cycle that every backend has. Trace, deploy, measure, seal."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.engines.plan import Step
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.messages import MeasuredStep, StageEvent
from sendnn_pipeline.pipeline.compile import CompiledEngine
from sendnn_pipeline.pipeline.stage import StageObserver
from sendnn_pipeline.programs.program import Program, Sizes
from sendnn_pipeline.programs.times import StepMs, StepTimes, implausible

MIN_RUNS, MAX_RUNS = 2, 5
ENOUGH_MS = 500.0
ROUNDS = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmEngine:
    """An engine whose Programs have run, with what their steps take."""

    run: Run
    core: EngineCore
    times: Mapping[Program, Mapping[Sizes, float]]
    measured: bool
    """Whether the steps were timed now, rather than when their artifacts were made."""

    def measured_steps(self) -> list[MeasuredStep]:
        """Return what full steps take."""
        tokens = {
            (program, step.sizes): step.num_tokens for program, steps in self.run.plan.steps.items() for step in steps
        }
        return [
            MeasuredStep(
                program.name,
                {dim.name: size for dim, size in zip(program.dims, sizes, strict=True)},
                tokens.get((program, sizes), 0),
                ms,
            )
            for program, measured in self.times.items()
            for sizes, ms in measured.items()
        ]


@dataclass(frozen=True)
class Warmup:
    """``CompiledEngine`` to ``WarmEngine``."""

    backend: CompileBackend
    world: World
    observe: StageObserver
    recorded: StepTimes
    """What was measured before, and is measured now."""
    traced: Callable[[], None] = lambda: None
    """Called once everything is compiled."""
    name = "warmup"

    def run(self, compiled: CompiledEngine) -> WarmEngine:
        """Run every Program through the path that requests take, twice in one order, then forbid compiling.

        The first run is the one that a device traces; the second deploys what was traced, and proves it: each Program
        once before any runs again, as devices finish what they deployed in the order of the runs. Steps are timed,
        unless all Programs are artifacts and were timed here before.
        """
        run, core, steps = compiled.run, compiled.core, compiled.run.plan.steps
        with ExitStack() as tracing:
            tracing.enter_context(self.backend.tracing())
            self._run_each("trace", core, {program: steps[program][0] for program in steps}, check=False)
            # All ranks trace at once, as steps need all of them; a device compiles when it is left, in turns.
            with self.world.stagger(run.config.parallel.max_load_processes):
                tracing.close()
        self.traced()
        if not self.backend.limits.runs:
            return WarmEngine(run, core, {}, False)
        recorded = self.recorded.read(run.timing_prefix)
        times: dict[Program, Mapping[Sizes, float]] = {
            program: recorded.get(program.name, {}) for program in run.plan.programs
        }
        measured = bool(compiled.num_compiled) or run.config.warmup.remeasure or not all(times.values())
        # All ranks make the same steps, as often as the first one does.
        measured = self.world.broadcast(measured)
        # The largest, but for files that were proved with it where they were made: then a start need not wait for it.
        last = -1 if measured or self.backend.limits.artifacts != "files" else 0
        deployed = self._run_each("deploy", core, {program: steps[program][last] for program in steps}, check=True)
        for index, program in enumerate(run.plan.programs, start=1):
            self.observe(StageEvent(self.name, "started", program.name, index, len(steps)))
            started = time.monotonic()
            if measured:
                times[program] = {step.sizes: self._measure_ms(core, program, step) for step in steps[program]}
            seconds = deployed[program] + time.monotonic() - started
            detail = _fastest(program, steps[program], times[program]) if measured else ""
            self.observe(StageEvent(self.name, "finished", program.name, index, len(steps), seconds, detail))
        again = self._measure_again(core, times, steps)
        if measured or again:
            self._record(run, times)
        self.backend.seal()
        return WarmEngine(run, core, times, measured or again)

    def _record(self, run: Run, times: Mapping[Program, StepMs]) -> None:
        """Keep what was measured, for the starts and the plans of later."""
        if self.world.rank:
            return
        try:
            self.recorded.record(run.timing_prefix, {program.name: measured for program, measured in times.items()})
        except OSError as error:
            log.warning("measured times are not saved: %s cannot be written: %s", run.cache_dir, error.strerror)

    def _run_each(
        self, what: str, core: EngineCore, runs: Mapping[Program, Step], *, check: bool
    ) -> dict[Program, float]:
        """Run each Program once, in order, and return the seconds that each took."""
        taken: dict[Program, float] = {}
        for index, (program, step) in enumerate(runs.items(), start=1):
            self.observe(StageEvent(what, "started", program.name, index, len(runs)))
            started = time.monotonic()
            core.rehearse(program, step.sizes, check=check)
            taken[program] = time.monotonic() - started
            self.observe(StageEvent(what, "finished", program.name, index, len(runs), taken[program]))
        return taken

    def _measure_ms(self, core: EngineCore, program: Program, step: Step) -> float:
        """Return the shortest of a few timings of a full step: what disturbs one only makes it longer."""
        timings: list[float] = []
        while len(timings) < MIN_RUNS or (len(timings) < MAX_RUNS and sum(timings) < ENOUGH_MS):
            timings.append(self.world.broadcast(core.rehearse(program, step.sizes, check=True)))
        return min(timings)

    def _measure_again(
        self, core: EngineCore, times: dict[Program, Mapping[Sizes, float]], steps: Mapping[Program, tuple[Step, ...]]
    ) -> bool:
        """Time steps again whose times cannot be, for a few rounds: what is recorded decides in all later runs.

        Returns:
            Whether there were any.
        """
        planned = {(program, step.sizes) for program, timed in steps.items() for step in timed}
        for tried in range(ROUNDS):
            found = [[program.name, *sizes] for program, sizes in implausible(times) & planned]
            wrong = self.world.broadcast(found)
            if not wrong:
                return tried > 0
            for program, timed in steps.items():
                for step in timed:
                    if [program.name, *step.sizes] in wrong:
                        before = times[program].get(step.sizes, math.inf)
                        ms = min(before, self._measure_ms(core, program, step))
                        times[program] = {**times[program], step.sizes: ms}
        return True


def _fastest(program: Program, steps: tuple[Step, ...], times: Mapping[Sizes, float]) -> str:
    best = min(steps, key=lambda step: times[step.sizes] / step.num_tokens)
    ms = times[best.sizes]
    sizes = ",".join(f"{dim.name}={size}" for dim, size in zip(program.dims, best.sizes, strict=True))
    return f"{ms:.1f} ms at {sizes}, {best.num_tokens / ms * 1000:,.0f} tokens a second"
