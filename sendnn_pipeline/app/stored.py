"""What the store of compiled Programs has for a run, before anything is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.programs.store import ArtifactStore, store_at


@dataclass(frozen=True)
class Missing:
    """What a run would have to compile."""

    reasons: Mapping[str, str]
    """Why each Program has to be compiled that the store lacks, by name."""
    nearest: tuple[str, ...] = ()
    """Lines of a table of what comes nearest to the first of them."""


def missing_programs(run: Run, backend: CompileBackend, simple: CompileBackend) -> Missing:
    """Return which Programs the store lacks.

    Args:
        run: resolved.
        backend: of its Programs.
        simple: of its helper Programs.
    """
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
        cache = program_cache(run, backend, store, World())
    except BackendError as error:
        if not isinstance(error.__cause__, PackageNotFoundError):
            raise
        # The backend says so itself when it is prepared.
        return Missing(dict.fromkeys(names, f"{error.__cause__.name} is not installed"))
    if cache.store is None:
        if run.config.artifacts.enabled and backend.limits.artifacts == "own_cache":
            return Missing({})
        return Missing(dict.fromkeys(names, f"backend={backend.name} keeps none"))
    # What is required is verified now: later the weights would be loaded before it is refused.
    why = cache.why_unusable if run.config.artifacts.require else cache.why_missing
    reasons = {name: reason for name in names if (reason := why(name))}
    if not reasons:
        return Missing(reasons)
    return Missing(reasons, store.nearest(cache.keys.key(next(iter(reasons)))))


def refuse_missing(run: Run, missing: Missing, draft: Draft) -> None:
    """Refuse to compile where artifacts are required.

    Raises:
        ArtifactError: some are missing; all of them are named.
    """
    reasons = missing.reasons
    if not run.config.artifacts.require or not reasons:
        return
    have = "has no artifact" if len(reasons) == 1 else "have no artifacts"
    each = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    error = ArtifactError(
        f"{', '.join(reasons)} {have} and artifacts.require=true: "
        + (next(iter(reasons.values())) if len(set(reasons.values())) == 1 else each),
        where=draft.where("artifacts.require"),
        hint="compile first with pipeline=precompile",
    )
    error.details = missing.nearest
    raise error
