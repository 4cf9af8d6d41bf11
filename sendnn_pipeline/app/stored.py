"""What the store of compiled Programs has for a run, before anything is loaded."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.programs.store import ArtifactStore, store_at


def missing_programs(run: Run, backend: CompileBackend, simple: CompileBackend) -> Mapping[str, str]:
    """Return why each Program that the store lacks has to be compiled, by name.

    Args:
        run: resolved.
        backend: of its Programs.
        simple: of its helper Programs.
    """
    store = store_at(run.config.artifacts, run.cache_dir)
    missing = {}
    for helper, compiles in ((False, backend), (True, simple)):
        names = [program.name for program in run.plan.programs if program.helper == helper]
        reasons = _reasons(run, compiles, store, names) if names else {}
        missing.update({name: reason for name, reason in reasons.items() if reason})
    return missing


def _reasons(run: Run, backend: CompileBackend, store: ArtifactStore, names: Sequence[str]) -> dict[str, str]:
    """Return why each Program is not in the store, empty where it is."""
    try:
        cache = program_cache(run, backend, store, World(0, run.plan.ranks))
    except BackendError as error:
        if not isinstance(error.__cause__, PackageNotFoundError):
            raise
        # The backend says so itself when it is prepared.
        return dict.fromkeys(names, f"{error.__cause__.name} is not installed")
    if cache.store is None:
        return dict.fromkeys(names, f"backend={backend.name} keeps none")
    return {name: cache.store.why_missing(cache.keys.key(name)) for name in names}


def refuse_missing(run: Run, missing: Mapping[str, str], draft: Draft) -> None:
    """Refuse to compile where artifacts are required.

    Raises:
        ArtifactError: some are missing; all of them are named.
    """
    if run.config.artifacts.require and missing:
        have = "has no artifact" if len(missing) == 1 else "have no artifacts"
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise ArtifactError(
            f"{', '.join(missing)} {have} and artifacts.require=true: "
            + (next(iter(missing.values())) if len(set(missing.values())) == 1 else reasons),
            where=draft.where("artifacts.require"),
            hint="compile first with pipeline=precompile",
        )
