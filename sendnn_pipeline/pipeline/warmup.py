"""Warmup: run and time every Program, then forbid compiling."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.compile import CompiledModel
from sendnn_pipeline.pipeline.stage import type_observe

if TYPE_CHECKING:
    from sendnn_pipeline.pooling.runner import PoolingRunner
    from sendnn_pipeline.programs.program import PoolProgram


@dataclass(frozen=True)
class WarmEngine:
    """Programs that have run, with their measured milliseconds."""

    run: Run
    runner: "PoolingRunner"
    costs_ms: "dict[PoolProgram, float]"


class Warmup:
    """``CompiledModel`` to ``WarmEngine``."""

    name = "warmup"

    def __init__(self, observe: type_observe) -> None:
        self.observe = observe

    def run(self, given: CompiledModel) -> WarmEngine:
        """Time every Program through the path that requests take, and set the fail-on-recompile stance."""
        import torch

        from sendnn_pipeline.pooling.runner import measure_ms

        costs_ms: dict[PoolProgram, float] = {}
        programs = list(given.runner.compiled)
        started = time.monotonic()
        measured = measure_ms(given.runner, programs, given.run.model.vocab_size)
        for place, (program, cost_ms) in enumerate(measured, start=1):
            costs_ms[program] = cost_ms
            seconds, started = time.monotonic() - started, time.monotonic()
            detail = f"{cost_ms:.1f} ms"
            self.observe(StageEvent(self.name, "finished", program.name, place, len(programs), seconds, detail))
        torch.compiler.set_stance("fail_on_recompile")
        return WarmEngine(given.run, given.runner, costs_ms)
