"""Warmup: run and time every Program, then forbid compiling."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.config.step_cost import StepCost, fit_step_cost
from sendnn_pipeline.messages import MeasuredStep, StageEvent
from sendnn_pipeline.pipeline.compile import CompiledModel
from sendnn_pipeline.pipeline.stage import type_observe
from sendnn_pipeline.programs.price import StepBook, price_key
from sendnn_pipeline.programs.program import PoolProgram

if TYPE_CHECKING:
    from sendnn_pipeline.pooling.runner import PoolingRunner


@dataclass(frozen=True)
class WarmEngine:
    """Programs that have run, with what their steps cost."""

    run: Run
    runner: "PoolingRunner"
    costs: Mapping[PoolProgram, StepCost]
    steps: tuple[MeasuredStep, ...]
    measured: bool
    """Whether the steps were timed now, rather than when their artifacts were made."""


class Warmup:
    """``CompiledModel`` to ``WarmEngine``."""

    name = "warmup"

    def __init__(self, observe: type_observe) -> None:
        self.observe = observe

    def run(self, given: CompiledModel) -> WarmEngine:
        """Run every Program through the path that requests take, and set the fail-on-recompile stance.

        Without dynamo in the process nothing can compile, and importing it for the stance would take a second.
        Steps are timed, unless all Programs are artifacts and were timed here before: then each runs once.
        """
        import torch

        from sendnn_pipeline.pooling.runner import measure_ms, prove, sizes_to_measure

        run = given.run
        programs = list(given.runner.compiled)
        book = StepBook(run.cache_dir / StepBook.FILE).read()
        known = {program: book.get(price_key(run, program), {}) for program in programs}
        measuring = bool(given.compiled) or run.config.warmup.remeasure or not all(known.values())
        for place, program in enumerate(programs, start=1):
            self.observe(StageEvent(self.name, "started", program.name, place, len(programs)))
            started = time.monotonic()
            sizes = sizes_to_measure(program, run.step_tokens)
            if measuring:
                # As a step runs when all streams are busy.
                threads = torch.get_num_threads()
                torch.set_num_threads(max(1, threads // run.streams))
                known[program] = measure_ms(given.runner, program, sizes, run.model.vocab_size)
                torch.set_num_threads(threads)
            else:
                prove(given.runner, program, sizes[0], run.model.vocab_size)
            seconds = time.monotonic() - started
            detail = _fastest(known[program]) if measuring else ""
            self.observe(StageEvent(self.name, "finished", program.name, place, len(programs), seconds, detail))
        if "torch._dynamo" in sys.modules:
            torch.compiler.set_stance("fail_on_recompile")
        costs = {program: _cost_of(program, measured) for program, measured in known.items()}
        steps = tuple(
            MeasuredStep(program.name, batch, length, ms)
            for program, measured in known.items()
            for (batch, length), ms in measured.items()
        )
        return WarmEngine(run, given.runner, costs, steps, measuring)


def _cost_of(program: PoolProgram, measured: Mapping[tuple[int, int], float]) -> StepCost:
    return fit_step_cost(measured) if program.is_range else StepCost(fixed_ms=min(measured.values()))


def _fastest(measured: Mapping[tuple[int, int], float]) -> str:
    (batch, length), ms = min(measured.items(), key=lambda step: step[1] / (step[0][0] * step[0][1]))
    return f"{ms:.1f} ms for {batch}x{length} tokens, {batch * length / ms * 1000:,.0f} a second"
