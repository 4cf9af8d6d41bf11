"""The job of a rank: the stages of the run, at its port."""

from contextlib import ExitStack

from msgspec import structs

from sendnn_pipeline.backends.create import create_backend, create_simple_backend
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.create import create_engine
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.compile import Compile
from sendnn_pipeline.pipeline.library_set import filling, library_set
from sendnn_pipeline.pipeline.load import Load
from sendnn_pipeline.pipeline.serve import EnginePort, Serve, ready_message
from sendnn_pipeline.pipeline.stage import Stage, run_stages
from sendnn_pipeline.pipeline.warmup import WarmEngine, Warmup
from sendnn_pipeline.programs.store import store_at
from sendnn_pipeline.programs.times import StepTimes

JOB = "sendnn_pipeline.pipeline.rank:run_rank"


def run_rank(port: EnginePort, run: Run, world: World) -> None:
    """Run the stages that ``run`` names, reporting each at the port.

    Plugins are loaded anew: a plugin manager does not cross processes.
    """
    plugins = load_plugins(process_environment())
    engine = create_engine(plugins, run.config.engine.name)
    backend = create_backend(plugins, run.config.backend)
    helpers = any(program.helper for program in run.plan.programs)
    simple = create_simple_backend(plugins, run.config.backend.simple) if helpers else backend
    about = {"backend": dict(backend.fingerprint())}

    def observe(event: StageEvent) -> None:
        port.send(structs.replace(event, rank=world.rank))

    store = store_at(run.config.artifacts, run.cache_dir)
    environ = process_environment()
    library = library_set(run, backend, environ)
    times = StepTimes(run.timing_folders)
    with ExitStack() as closing:
        filled = closing.enter_context(filling(library, environ, world))
        stages: list[Stage] = [
            Load(engine, world, closing),
            Compile(backend, simple, store, world, observe, library, filled.missing),
            Warmup(backend, world, observe, times, filled.publish),
            Serve(port, world, about),
        ]
        last = run_stages(stages[: len(run.config.pipeline.stages)], run, observe)
        if isinstance(last, WarmEngine) and not world.local_rank:
            port.send(ready_message(last, about))
