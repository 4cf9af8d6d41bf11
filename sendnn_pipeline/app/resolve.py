"""From overrides to a resolved run: compose, find the model, resolve, and let engine, backend and plugins check it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.app.backend_checks import check_helpers, check_limits
from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.app.named import check_named
from sendnn_pipeline.app.nodes import check_nodes
from sendnn_pipeline.app.source import NamedSource, choose_source
from sendnn_pipeline.app.stored import missing_programs, refuse_missing
from sendnn_pipeline.app.usage import note_unused_keys
from sendnn_pipeline.backends.base import CompileBackend, Limits
from sendnn_pipeline.backends.create import create_backend
from sendnn_pipeline.config.aliases import settle_path, settle_renamed
from sendnn_pipeline.config.check import check_draft
from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.config.empty import settle_empty
from sendnn_pipeline.config.layers import LayeredConfig
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
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.programs.times import timing_prefix


@dataclass(frozen=True)
class ComposedRun:
    """The overrides composed, with the source of the model; the model is not read yet."""

    draft: Draft
    source: NamedSource

    def locate(self) -> Path | None:
        """Return the model's folder if it is here already."""
        return self.source.locate(self.draft.config().model, self.draft.cache_dir)

    def fetch(self) -> Path:
        """Return the model's folder, fetched if need be.

        Raises:
            ModelError: it cannot be had.
        """
        folder = self.source.fetch(self.draft.config().model, self.draft.cache_dir)
        for notice in self.source.notices:
            self.draft.note(notice)
        return folder


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
    library_variables: Mapping[str, str]
    """What the backend's library must find to have what another tool compiled into its cache; empty where none is."""


def compose_run(context: AppContext, overrides: Sequence[Override]) -> ComposedRun:
    """Compose ``overrides`` and choose the model's source.

    Raises:
        ConfigError: they do not compose, a value is wrong, or no source takes the model.
    """
    return find_source(context, context.compose(overrides))


def find_source(context: AppContext, layered: LayeredConfig) -> ComposedRun:
    """Choose the source of the model of a configuration that is composed already.

    Raises:
        ConfigError: a value is wrong, or no source takes the model.
    """
    draft = layered.draft
    settle_renamed(draft)
    settle_empty(draft, context.schemas.keys())
    settle_path(draft)
    for (group, name), schema in context.schemas.schemas.items():
        settle = getattr(schema, "settle", None)
        if settle is not None and name in ("", draft.choices.get(group)):
            settle(draft)
    check_draft(draft)
    check_named(context.plugins, context.tree, context.schemas, draft)
    draft.cache_dir = cache_dir_of(draft["cache_dir"], context.environ, draft.where("cache_dir"))
    source = choose_source(context.plugins, draft)
    return ComposedRun(draft, source)


def cache_dir_of(cache_dir: str | None, environ: Mapping[str, str], where: str = "") -> Path:
    """Return the folder of fetched models and compiler caches.

    Raises:
        ConfigError: there is no home folder for it, or it cannot be used.
    """
    if cache_dir:
        return expand_path(cache_dir, "cache_dir", where)
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return expand_path(f"{base}/sendnn_pipeline", "cache_dir")
    except ConfigError as error:
        raise ConfigError(error.message, hint="set cache_dir (SENDNN_PIPELINE__cache_dir) or HOME") from None


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
    draft.threads = plan_threads(draft.config().process, context.environ, here).count
    _resolve_dtype(draft, limits)
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
    run = Run(config, draft.facts, plan, draft.cache_dir, served, threads, prefix)
    simple = check_helpers(plugins, draft, plan)
    check_limits(run, backend, draft)
    problems = _find_problems(plugins, run)
    if problems:
        raise ConfigError("; ".join(problems))
    missing = missing_programs(run, backend, simple or backend, context.environ)
    refuse_missing(run, backend, missing, draft, context.environ)
    for note in missing.notes:
        draft.note(note)
    return ResolvedRun(run, draft, engine, backend, missing.reasons, missing.library_variables)


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
