"""Where what a backend compiles is kept: the store of artifacts, or its library's own cache. No torch."""

from collections.abc import Mapping
from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.schema import ArtifactsConfig
from sendnn_pipeline.programs.artifact import MANIFEST
from sendnn_pipeline.programs.store import WORKING, ArtifactStore, store_at


def kept_store(
    options: ArtifactsConfig, cache_dir: Path, backend: CompileBackend, environ: Mapping[str, str]
) -> ArtifactStore | None:
    """Return the store of a run; None where nothing of it outlives the process.

    Args:
        options: of artifacts.
        cache_dir: of this user.
        backend: that compiles.
        environ: which may name the folder of a library's own cache: in an engine's process, its own folder in there.
    """
    if not options.enabled:
        return None
    store, cache = store_at(options, cache_dir), backend.own_cache
    if cache is None:
        return store if backend.limits.artifacts == "files" else None
    folder = cache.folder(environ, store.folder)
    if folder is None:
        return None
    is_inside = folder.name.startswith(WORKING) or (folder / MANIFEST).is_file()
    return ArtifactStore(folder.parent if is_inside else folder, store.trusted)


def timing_folders(cache_dir: Path, store: ArtifactStore | None) -> tuple[Path, ...]:
    """Return where times of steps are recorded: those of this machine, and those beside artifacts, which travel."""
    return (cache_dir, store.folder) if store else (cache_dir,)
