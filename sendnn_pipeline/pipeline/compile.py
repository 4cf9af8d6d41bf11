"""Compile: every Program of the plan, from its artifact where there is one."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.pipeline.load import LoadedEngine
from sendnn_pipeline.pipeline.stage import StageObserver
from sendnn_pipeline.programs.store import ArtifactStore

if TYPE_CHECKING:
    from sendnn_pipeline.programs.program import Program


@dataclass(frozen=True)
class CompiledEngine:
    """An engine whose Programs are compiled; none has run."""

    run: Run
    core: EngineCore
    num_compiled: int
    """How many Programs had no artifact."""


@dataclass(frozen=True)
class Compile:
    """``LoadedEngine`` to ``CompiledEngine``."""

    backend: CompileBackend
    simple: CompileBackend
    """Compiles helper Programs."""
    store: ArtifactStore
    world: World
    observe: StageObserver
    name = "compile"

    def run(self, loaded: LoadedEngine) -> CompiledEngine:
        """Get one Program after the other, and have the engine bind its weights to them."""
        run = loaded.run
        caches = {
            False: program_cache(run, self.backend, self.store, self.world),
            True: program_cache(run, self.simple, self.store, self.world),
        }
        programs = run.plan.programs
        compiled: dict[Program, CompiledProgram] = {}
        num_compiled = 0
        for index, program in enumerate(programs, start=1):
            self.observe(StageEvent(self.name, "started", program.name, index, len(programs)))
            started = time.monotonic()
            graph = loaded.core.graph(program)
            compiled[program], source, reason = caches[program.helper].get_or_compile(graph)
            seconds = time.monotonic() - started
            num_compiled += source == "compiled"
            self.observe(StageEvent(self.name, "finished", program.name, index, len(programs), seconds, reason, source))
        options = run.config.artifacts
        if options.enabled and not options.require:
            used = frozenset(caches[program.helper].keys.key(program.name).digest for program in programs)
            self.store.prune(options.max_bytes, used)
        loaded.core.install(compiled)
        return CompiledEngine(run, loaded.core, num_compiled)
