"""What a backend's library compiles in one run, as one artifact: the cache that the library keeps, made whole.

The library gets a folder of its own for a run: what a verified artifact has, or nothing, which is published once
everything is compiled. So a folder is never half a cache, whoever is killed, and never two runs'; and what a library
writes into its cache while it only reads it, such as who used it last, alters no artifact.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.backends.library_cache import LibraryCache
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact
from sendnn_pipeline.programs.key import ArtifactKey, artifact_keys
from sendnn_pipeline.programs.locks import unwritable
from sendnn_pipeline.programs.store import WORKING, ArtifactStore, Miss, store_at

Publish = Callable[[], None]
# Larger files are compiled code, which nobody changes in place; what a library keeps account in is smaller.
LINKED_BYTES = 2**20


@dataclass(frozen=True)
class LibrarySet:
    """The Programs of a run that a library compiles together."""

    cache: LibraryCache
    key: ArtifactKey
    store: ArtifactStore
    model: str
    """What the model is called, for people who look into the store."""
    working: Path
    """The library's folder for this run."""
    max_bytes: int
    """What the store may hold."""

    def find(self) -> Artifact | Miss:
        """Return the verified artifact, or why it is missing."""
        return self.store.find(self.key, str)

    def publish(self) -> None:
        """Publish what the library left in the working folder, which stays as it is."""
        self.store.publish(self.key, self._fill, model=self.model)
        self.store.prune(self.max_bytes, frozenset((self.key.digest,)))

    def _fill(self, folder: Path) -> None:
        shutil.copytree(self.working, folder, copy_function=_link, dirs_exist_ok=True)

    def variables(self) -> Mapping[str, str]:
        """Return what the library must find at its import: from a store that is read-only, the artifact itself."""
        found = self.find()
        if isinstance(found, Artifact) and not os.access(self.store.folder, os.W_OK):
            return self.cache.variables(found.folder)
        return self.cache.variables(self.working)


def library_set(run: Run, backend: CompileBackend, environ: Mapping[str, str]) -> LibrarySet | None:
    """Return the set of a run; None where the backend's library keeps no cache, or the user turned it off."""
    options, cache = run.config.artifacts, backend.own_cache
    if cache is None or not options.enabled:
        return None
    folder = cache.folder(environ, store_at(options, run.cache_dir).folder)
    if folder is None:
        return None
    # The variables of an engine that ran in this process, or of this engine itself.
    is_working, is_artifact = folder.name.startswith(WORKING), (folder / MANIFEST).is_file()
    root = folder.parent if is_working or is_artifact else folder
    working = folder if is_working else root / f"{WORKING}{uuid.uuid4().hex}"
    fields = {**backend.fingerprint(), **cache.fields(run.plan.bounds, environ)}
    keys = artifact_keys(
        run.model.structure_digest,
        (("dtype", run.config.model.dtype), *run.plan.key_fields),
        # The same with a card and without.
        backend.library or backend.name,
        fields,
        (("rank", _ranks_here(run)),),
    )
    names = "+".join(program.name for program in run.plan.programs)
    store = ArtifactStore(root, frozenset(options.trusted))
    return LibrarySet(cache, keys.key(names), store, run.served_name, working, options.max_bytes)


def _ranks_here(run: Run) -> str:
    """Return whose parts of the model the folder has: each rank of this machine compiles its own into it."""
    here = run.config.parallel.local_ranks
    return str(World()) if run.plan.ranks == 1 else f"{here.start} to {here.stop - 1} of {run.plan.ranks}"


@contextmanager
def filling(library: LibrarySet | None, environ: Mapping[str, str], world: World) -> Iterator[Publish]:
    """Have the library's folder there while the engine runs; yield what to call once everything is compiled.

    A second run that wants to compile the same waits here, and finds what the first one published. Of the ranks on
    this machine, the first makes the folder, before it meets the others, and publishes it once all have compiled. All
    ranks meet then, those without a folder to fill too: another machine may have one.

    Args:
        library: the run's.
        environ: of this process, the library's variables among it.
        world: this process among all of the run.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    if library is None or library.cache.folder(environ, library.store.folder) != library.working:
        # It has an artifact's folder, or one that is not ours to fill.
        yield world.meet
        return
    if world.local_rank:
        yield world.meet
        return
    with library.store.working(library.working), ExitStack() as compiling:
        found = library.find()
        if isinstance(found, Miss):
            compiling.enter_context(library.store.compiling(library.key))
            found = library.find()
        try:
            if isinstance(found, Artifact):
                leave_out = shutil.ignore_patterns(MANIFEST)
                shutil.copytree(
                    found.folder, library.working, ignore=leave_out, copy_function=_link, dirs_exist_ok=True
                )
                compiling.close()
        except OSError as error:
            raise unwritable(library.store.folder, error) from None

        def publish() -> None:
            world.meet()
            if isinstance(found, Miss):
                library.publish()
            compiling.close()

        yield publish


def _link(file: str, target: str) -> None:
    """Have a file in another folder, too, without a copy where it is large."""
    try:
        if Path(file).stat().st_size > LINKED_BYTES:
            os.link(file, target)
            return
    except OSError:
        # Another file system, or one without links.
        pass
    shutil.copyfile(file, target)
