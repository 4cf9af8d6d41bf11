"""Compile: every Program of the plan, from its artifact where there is one."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.cache import Source, program_cache
from sendnn_pipeline.pipeline.library_set import LibrarySet
from sendnn_pipeline.pipeline.load import LoadedEngine
from sendnn_pipeline.pipeline.stage import StageObserver
from sendnn_pipeline.programs.store import ArtifactStore, Miss

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
    library: LibrarySet | None = None
    """What the backend's library keeps by itself."""
    missing: Miss | None = None
    """Why it has to compile that; None where it has it."""
    name = "compile"

    def run(self, loaded: LoadedEngine) -> CompiledEngine:
        """Get every Program, several at once where the backend can, and have the engine bind its weights to them.

        Ranks that compile in turns find what those before them left, and load no model of their own to trace it.
        """
        with self.world.stagger(loaded.run.config.parallel.max_load_processes):
            return self._compile(loaded)

    def _compile(self, loaded: LoadedEngine) -> CompiledEngine:
        run = loaded.run
        caches = {
            False: program_cache(run, self.backend, self.store, self.world, self._library_source(run)),
            True: program_cache(run, self.simple, self.store, self.world),
        }
        programs = run.plan.programs
        compiled: dict[Program, CompiledProgram] = {}
        num_compiled = 0

        def get(program: "Program") -> tuple[CompiledProgram, Source, str, float]:
            started = time.monotonic()
            found = caches[program.helper].get_or_compile(loaded.core.graph(program))
            return *found, time.monotonic() - started

        # One more than CPUs: while others are built, the next is traced.
        several = self.backend.limits.concurrent_compiles and self.simple.limits.concurrent_compiles
        with ThreadPoolExecutor(run.threads + 1, self.name) as pool:
            results = (pool.map if several else map)(get, programs)
            for index, program in enumerate(programs, start=1):
                self.observe(StageEvent(self.name, "started", program.name, index, len(programs)))
                compiled[program], source, reason, seconds = next(results)
                num_compiled += source == "compiled"
                done = StageEvent(self.name, "finished", program.name, index, len(programs), seconds, reason, source)
                self.observe(done)
        options = run.config.artifacts
        if options.enabled and not options.require:
            used = {caches[program.helper].keys.key(program.name).digest for program in programs}
            library = {self.library.key.digest} if self.library else set()
            self.store.prune(options.max_bytes, frozenset(used | library))
        loaded.core.install(compiled)
        return CompiledEngine(run, loaded.core, num_compiled)

    def _library_source(self, run: Run) -> tuple[Source, str]:
        """Return where Programs come from that the library keeps, and why they have to be compiled."""
        if self.missing is not None and not run.config.artifacts.require:
            return "compiled", self.missing.reason
        return ("artifact" if self.library is not None else "compiled"), ""
