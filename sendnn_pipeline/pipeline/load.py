"""Load: the engine, with its weights at hand."""

from contextlib import ExitStack
from dataclasses import dataclass

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.base import Engine, EngineCore, Follower
from sendnn_pipeline.engines.run import Run


@dataclass(frozen=True)
class LoadedEngine:
    """A run and its engine; nothing is compiled."""

    run: Run
    core: EngineCore


@dataclass(frozen=True)
class Load:
    """``Run`` to ``LoadedEngine``."""

    engine: Engine
    world: World
    closing: ExitStack
    """Closes the engine, however far the stages after this one come."""
    name = "load"

    def run(self, run: Run) -> LoadedEngine:
        """Open the engine, as many ranks at once as may be."""
        with self.world.stagger(run.config.parallel.max_load_processes):
            core = self.engine.open(run, self.world)
        self.closing.callback(core.close)
        if self.world.size > 1 and isinstance(core, Follower):
            # Not before: ranks that load in turns do not wait for each other while they do.
            core.meet()
        return LoadedEngine(run, core)
