"""Compile: every Program of the plan."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.load import LoadedModel
from sendnn_pipeline.pipeline.stage import type_observe
from sendnn_pipeline.programs.program import plan_pooling

if TYPE_CHECKING:
    from sendnn_pipeline.pooling.runner import PoolingRunner


@dataclass(frozen=True)
class CompiledModel:
    """A run and its compiled Programs."""

    run: Run
    runner: "PoolingRunner"


class Compile:
    """``LoadedModel`` to ``CompiledModel``."""

    name = "compile"

    def __init__(self, backend: CompileBackend, simple: CompileBackend, observe: type_observe) -> None:
        self.backend, self.simple, self.observe = backend, simple, observe

    def run(self, given: LoadedModel) -> CompiledModel:
        """Compile one Program after the other, then the helper graph."""
        from sendnn_pipeline.pooling.runner import PoolingRunner, compile_finite, compile_program, pool_function

        run, engine = given.run, given.run.config.engine
        function = pool_function(given.module, engine.pooling, bool(engine.normalize))
        programs = plan_pooling(run.shapes).programs
        compiled = {}
        for place, program in enumerate(programs, start=1):
            self.observe(StageEvent(self.name, "started", program.name, place, len(programs)))
            started = time.monotonic()
            compiled[program] = compile_program(self.backend, program, function, run)
            seconds = time.monotonic() - started
            self.observe(StageEvent(self.name, "finished", program.name, place, len(programs), seconds))
        finite = compile_finite(self.simple, run.model.hidden_size)
        return CompiledModel(run, PoolingRunner(compiled, finite, run.model.pad_token_id))
