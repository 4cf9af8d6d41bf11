"""From a composed run to a resolved one: read the model, resolve, and let engine, backend and plugins check it."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sendnn_pipeline.app.backend_checks import check_helpers, check_limits
from sendnn_pipeline.app.composed import ComposedRun
from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.app.nodes import check_nodes
from sendnn_pipeline.app.stored import missing_programs, refuse_missing
from sendnn_pipeline.app.usage import note_unused_keys
from sendnn_pipeline.backends.base import CompileBackend, Limits
from sendnn_pipeline.backends.create import create_backend
from sendnn_pipeline.backends.stores import kept_store, timing_folders
from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.config.schema import EngineConfig
from sendnn_pipeline.engines.base import Engine
from sendnn_pipeline.engines.create import choose_engine, create_engine
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError, PluginError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.known.entry import AUTO, NONE
from sendnn_pipeline.known.layer import NotKnownError, Platform, apply_known
from sendnn_pipeline.machine.cpu import computes_bfloat16, cpu_kind
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.programs.times import timing_prefix

RANKS = "parallel.tensor_parallel"


@dataclass(frozen=True)
class ResolvedRun:
    """A run, its backend, and for every key where its value came from."""

    run: Run
    draft: Draft
    engine: Engine
    backend: CompileBackend
    missing: Mapping[str, str]
    """Why Programs have to be compiled, by the name of those that the store lacks."""
    library_folder: Path | None
    """What the backend's library has as its cache as it is; None where it gets a folder of its own."""


def resolve_run(context: AppContext, composed: ComposedRun, folder: Path) -> ResolvedRun:
    """Read the model's facts, replace every ``auto``, plan, and ask backend and plugins whether the run can work.

    Raises:
        PipelineError: it cannot; the message says why.
    """
    draft, plugins = composed.draft, context.plugins
    draft.facts = read_model_facts(folder)
    for notice in draft.facts.notices:
        draft.note(notice)
    _apply_known(context, draft)
    backend = create_backend(plugins, draft.config().backend, where=draft.where("backend.name"))
    limits = backend.limits
    check_nodes(draft, context.environ)
    here = len(draft.config().parallel.local_ranks)
    planned = plan_threads(draft.config().process, context.environ, here)
    draft.threads = planned.count
    _resolve_dtype(draft, limits)
    kept = kept_store(draft.config().artifacts, draft.cache_dir, backend, context.environ)
    draft.timing_folders = folders = timing_folders(draft.cache_dir, kept)
    engine = _resolve_engine(context, draft)
    engine.resolve(draft, limits)
    note_unused_keys(context, draft, engine)
    config = draft.config()
    plan = engine.plan(config, draft.facts, limits)
    _check_ranks(draft, plan.ranks)
    prefix = timing_prefix(
        draft.facts.structure_digest,
        draft.values["backend"],
        config.model.dtype,
        cpu_kind(),
        threads=draft.threads,
        concurrent_steps=plan.concurrent_steps,
        ranks=plan.ranks,
    )
    served = config.model.served_name or _name_of(draft)
    threads = draft.threads if config.process.update_thread_config else 0
    run = Run(
        config,
        draft.facts,
        plan,
        draft.cache_dir,
        served,
        threads,
        prefix,
        folders,
        backend.library,
        encoder_threads=planned.encoder,
    )
    simple = check_helpers(plugins, draft, plan)
    check_limits(run, backend, draft)
    problems = _find_problems(plugins, run)
    if problems:
        raise ConfigError("; ".join(problems))
    missing = missing_programs(run, backend, simple or backend, context.environ)
    refuse_missing(run, backend, missing, draft, context.environ)
    for note in missing.notes:
        draft.note(note)
    proven = replace(run, proven=missing.proven)
    return ResolvedRun(proven, draft, engine, backend, missing.reasons, missing.library_folder)


def _name_of(draft: Draft) -> str:
    """Return what clients call a model that nobody named: its option where that has the path, else the path's end."""
    group, _, option = draft.origins["model.path"][0].option.partition("=")
    path: str = draft["model.path"]
    return option if group == "model" else path.rstrip("/").rsplit("/", 1)[-1].split("==")[0]


def _apply_known(context: AppContext, draft: Draft) -> None:
    name, file, require = draft["known.name"], draft["known.file"], draft["known.require"]
    if name == NONE and not require:
        draft.note_unused("known.file", "known=none disables known configurations")
        return
    # A named or required configuration is told apart from its neighbours in errors, so those are read, too.
    backend = draft["backend.name"] if name == AUTO and not require else None
    known = collect_known(context, file, draft.where("known.file"), backend)
    where = Platform(draft["backend.name"], platform.machine(), context.environ, draft[RANKS])
    for problem in known.problems:
        draft.note(problem.message)
    try:
        apply_known(draft, known.configs, draft.model.config, where)
    except NotKnownError as error:
        if not known.problems:
            raise
        # It may be what could not be read.
        raise PluginError(f"{error.message}; {known.problems[0].message}", where=error.where) from None


def _resolve_dtype(draft: Draft, limits: Limits) -> None:
    dtype = draft["model.dtype"]
    if dtype == Dtype.auto:
        chosen, reason = limits.dtypes[0], "what the backend computes"
        if Dtype.bfloat16 in limits.dtypes:
            native = computes_bfloat16()
            chosen = Dtype.bfloat16 if native else chosen
            reason = f"this CPU {'computes' if native else 'does not compute'} bfloat16"
        draft.put("model.dtype", str(chosen), Layer.CHOSEN, reason)
    elif dtype not in limits.dtypes:
        raise ConfigError(
            f"model.dtype={dtype} is not computed by {draft['backend.name']}",
            where=draft.where("model.dtype"),
            hint=f"use {', '.join(limits.dtypes)}",
        )


def _resolve_engine(context: AppContext, draft: Draft) -> Engine:
    """Choose the engine, and let the draft have the types of its keys."""
    if draft["engine.name"] == AUTO:
        name, reason = choose_engine(context.plugins, draft.model)
        draft.put("engine.name", name, Layer.CHOSEN, reason)
    engine = create_engine(context.plugins, draft["engine.name"], where=draft.where("engine.name"))
    schema = context.schemas.schemas.get(("engine", engine.name), EngineConfig)
    draft.schemas = {**draft.schemas, "engine": schema}
    return engine


def _check_ranks(draft: Draft, planned: int) -> None:
    for key in ("parallel.max_load_processes", "parallel.gloo_timeout_minutes") if planned == 1 else ():
        draft.note_unused(key, "one rank waits for no other")
    if draft[RANKS] != planned:
        raise ConfigError(
            f"{RANKS}={draft[RANKS]}, and engine={draft['engine.name']} on backend={draft['backend.name']} runs in "
            "one process",
            where=draft.where(RANKS),
            hint=f"leave {RANKS} at 1",
        )


def _find_problems(plugins: Plugins, run: Run) -> list[str]:
    problems: list[str] = []
    for name, found in plugins.collect("check_config", run=lambda _: run).items():
        if isinstance(found, list | tuple):
            problems += map(str, found)
        else:
            plugins.fail(name, f"check_config failed: it returned {found!r} and not a list of problems")
    return problems
