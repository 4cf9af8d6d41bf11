"""How the engine's processes of a run are started, and started again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import ObserveConfig, OnWorkerDeath
from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.distributed.revived import start_revived
from sendnn_pipeline.distributed.standby import Standby
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.target import RunningEngine, ServeTarget
from sendnn_pipeline.pipeline.rank import JOB

ON_DEATH, MAX_RESTARTS = "parallel.on_worker_death", "parallel.max_restarts"


def start_of(
    run: Run,
    target: ServeTarget | None,
    environment: Mapping[str, str],
    environ: Mapping[str, str],
    standby: Standby | None = None,
) -> Callable[[], RunningEngine]:
    """Return what starts the engine's processes, and starts them again after a death where a server asks for that."""
    # Who observes, and their options, stay in this process.
    own = replace(run, config=replace(run.config, observe=ObserveConfig()))
    start = partial(start_ranks, JOB, own, environment, environ, standby)
    parallel = run.config.parallel
    if target is None or target.ends or parallel.on_worker_death == OnWorkerDeath.exit:
        return start
    return partial(start_revived, start, parallel.max_restarts)


def note_restarts(draft: Draft, target: ServeTarget | None) -> None:
    """Note keys of restarts that have no effect."""
    if target is None or target.ends:
        why = "this run does not serve" if target is None else f"serve.target={draft['serve.target']} ends by itself"
        draft.note_unused(ON_DEATH, why)
        draft.note_unused(MAX_RESTARTS, why)
    elif draft[ON_DEATH] == OnWorkerDeath.exit:
        draft.note_unused(MAX_RESTARTS, f"{ON_DEATH}=exit")
