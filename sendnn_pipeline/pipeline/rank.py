"""The job of an engine process: the stages of the run, at its port."""

from importlib.metadata import version

import psutil

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.environment import process_environment
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.port import Port
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.hooks.manager import load_plugins
from sendnn_pipeline.pipeline.compile import Compile
from sendnn_pipeline.pipeline.load import Load
from sendnn_pipeline.pipeline.serve import Serve, ready_message
from sendnn_pipeline.pipeline.stage import Stage, run_stages, type_observe
from sendnn_pipeline.pipeline.warmup import WarmEngine, Warmup
from sendnn_pipeline.programs.store import store_at

JOB = "sendnn_pipeline.pipeline.rank:run_rank"


def run_rank(port: Port, run: Run) -> None:
    """Run the stages that ``run`` names, reporting each at the port.

    Plugins are loaded anew: a plugin manager does not cross processes.
    """
    plugins = load_plugins(process_environment())
    backends = plugins.registry("register_compile_backends", "compile backend")
    backend = backends.create(run.config.backend.name, missing=plugins.missing())
    simple = backends.create(run.config.backend.simple, missing=plugins.missing())
    about = {
        "threads": _set_threads(run),
        "streams": run.streams,
        # What torch takes before there is any weight: the plan's price begins here.
        "runtime_bytes": psutil.Process().memory_info().rss,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "backend": backend.fingerprint(run),
    }
    stages = [*stages_to_warm(run, backend, simple, port.send), Serve(port, about)]
    last = run_stages(stages[: len(run.config.pipeline.stages)], run, port.send)
    if isinstance(last, WarmEngine):
        port.send(ready_message(last, about))


def stages_to_warm(run: Run, backend: CompileBackend, simple: CompileBackend, observe: type_observe) -> list[Stage]:
    """Return load, compile and warmup."""
    return [
        Load(traces_always=not backend.portable(run)),
        Compile(backend, simple, store_at(run.config.artifacts, run.cache_dir), observe),
        Warmup(observe),
    ]


def _set_threads(run: Run) -> int:
    """Tell torch, which reads OMP_NUM_THREADS once, when another library may have been first; return its threads."""
    import torch

    threads = process_environment().get("OMP_NUM_THREADS", "")
    if run.config.process.update_thread_config and threads:
        if not threads.isdigit():
            raise BackendError(f"OMP_NUM_THREADS={threads} is no number of threads")
        torch.set_num_threads(int(threads))
    return torch.get_num_threads()
