"""What the store of compiled Programs has for a run, before anything is loaded."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.backends.create import create_simple_backend
from sendnn_pipeline.backends.library_cache import OtherEntry
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.pipeline.library_set import LibrarySet, library_set
from sendnn_pipeline.programs.artifact import Artifact, FileState
from sendnn_pipeline.programs.nearest import Candidate, nearest_table
from sendnn_pipeline.programs.store import ArtifactStore, Miss, store_at

# What decides a field of an artifact's key that a user chooses.
KEYS = {"dtype": "model.dtype", "pooling": "engine.pooling", "task": "engine.task", "device": "device"}


@dataclass(frozen=True)
class Missing:
    """What a run would have to compile."""

    reasons: Mapping[str, str]
    """Why each Program has to be compiled that the store lacks, by name."""
    nearest: tuple[str, ...] = ()
    """Lines of a table of what comes nearest to the first of them."""
    library_folder: Path | None = None
    """What the backend's library has as it is: what another tool compiled, or a set on a read-only disk."""
    proven: frozenset[FileState] = frozenset()
    """Files whose digests were compared."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""


def missing_programs(run: Run, backend: CompileBackend, simple: CompileBackend, environ: Mapping[str, str]) -> Missing:
    """Return which Programs the store lacks.

    Args:
        run: resolved.
        backend: of its Programs.
        simple: of its helper Programs.
        environ: which may name the folder of a library's own cache.
    """
    library = library_set(run, backend, environ)
    if library is not None:
        return missing_in_library(run, library)
    store = store_at(run.config.artifacts, run.cache_dir)
    reasons: dict[str, str] = {}
    nearest: tuple[str, ...] = ()
    for helper, compiles in ((False, backend), (True, simple)):
        names = [program.name for program in run.plan.programs if program.helper == helper]
        if names:
            found = _missing(run, compiles, store, names)
            reasons |= found.reasons
            nearest = nearest or found.nearest
    return Missing(reasons, nearest)


def _missing(run: Run, backend: CompileBackend, store: ArtifactStore, names: Sequence[str]) -> Missing:
    try:
        cache = program_cache(run, backend, store, World(0, run.plan.ranks))
    except BackendError as error:
        if not isinstance(error.__cause__, PackageNotFoundError):
            raise
        # The backend says so itself when it is prepared.
        return Missing(dict.fromkeys(names, f"{error.__cause__.name} is not installed"))
    if cache.store is None:
        return Missing(dict.fromkeys(names, f"backend={backend.name} keeps none"))
    # What is required is verified now: later the weights would be loaded before it is refused.
    why = cache.why_unusable if run.config.artifacts.require else cache.why_missing
    reasons = {name: reason for name in names if (reason := why(name))}
    if not reasons:
        return Missing(reasons)
    return Missing(reasons, store.nearest(cache.keys.key(next(iter(reasons)))))


def stored_artifacts(plugins: Plugins, run: Run, backend: CompileBackend, environ: Mapping[str, str]) -> list[Artifact]:
    """Return the verified artifacts of a run that has all of them.

    Raises:
        ArtifactError: one is gone.
    """
    library = library_set(run, backend, environ)
    found = [library.find()] if library else []
    store = store_at(run.config.artifacts, run.cache_dir)
    for program in () if library else run.plan.programs:
        compiles = create_simple_backend(plugins, run.config.backend.simple) if program.helper else backend
        cache = program_cache(run, compiles, store, World())
        found.append(store.find(cache.keys.key(program.name), cache.weights))
    for entry in found:
        if isinstance(entry, Miss):
            raise ArtifactError(entry.reason, hint=entry.advice)
    return [entry for entry in found if isinstance(entry, Artifact)]


def missing_in_library(run: Run, library: LibrarySet) -> Missing:
    """Return whether the library's cache has the run's Programs, which are compiled together.

    Where nothing may be compiled, what another tool says that it compiled counts, too.

    Raises:
        BackendError: another tool's catalog cannot be read.
    """
    found = library.find()
    if not isinstance(found, Miss):
        as_it_is = None if os.access(library.store.folder, os.W_OK) else found.folder
        return Missing({}, library_folder=as_it_is, proven=found.proven)
    reasons = dict.fromkeys((program.name for program in run.plan.programs), found.reason)
    if not run.config.artifacts.require:
        return Missing(reasons)
    others = library.cache.others(library.store.folder, run.plan.bounds, run.config.model.path)
    match = next((entry for entry in others if entry.matches), None)
    if match is not None:
        note = f"{match.name} of {library.store.folder} says that this was compiled; nothing here proves it"
        return Missing({}, (), library.store.folder, notes=(note, *match.notes))
    return Missing(reasons, (*library.store.nearest(library.key), *_nearest_of_others(others)))


def _or_choose(reasons: Iterable[str]) -> str:
    """Return what else helps: a key for the field in which all differ from what there is."""
    key = next((key for field, key in KEYS.items() if all(reason.startswith(f"{field} is ") for reason in reasons)), "")
    return f", or set {key} to what there is" if key else ""


def _nearest_of_others(others: Sequence[OtherEntry]) -> tuple[str, ...]:
    wanted = {name: text for entry in others for name, text in entry.wanted.items()}
    return nearest_table(wanted, [Candidate(entry.name, entry.fields) for entry in others])


def refuse_missing(
    run: Run, backend: CompileBackend, missing: Missing, draft: Draft, environ: Mapping[str, str]
) -> None:
    """Refuse to compile where artifacts are required.

    Raises:
        ArtifactError: some are missing; all of them are named.
        BackendError: the backend itself could not be used, whatever the store has.
    """
    reasons = missing.reasons
    if not run.config.artifacts.require or not reasons:
        return
    backend.prepare(run.cache_dir, environ)
    have = "has no artifact" if len(reasons) == 1 else "have no artifacts"
    each = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    error = ArtifactError(
        f"{', '.join(reasons)} {have} and artifacts.require=true: "
        + (next(iter(reasons.values())) if len(set(reasons.values())) == 1 else each),
        where=draft.where("artifacts.require"),
        hint=f"compile first with pipeline=precompile{_or_choose(reasons.values())}",
    )
    error.details = missing.nearest
    raise error
