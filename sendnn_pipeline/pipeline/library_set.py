"""What a backend's library compiles in one run, as one artifact: the cache that the library keeps, made whole.

The library gets a folder of its own for a run: what a verified artifact has, or nothing, which is published once
everything is compiled. So a folder is never half a cache, whoever is killed, and never two runs'; and what a library
writes into its cache while it only reads it, such as who used it last, alters no artifact.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.backends.library_cache import LibraryCache
from sendnn_pipeline.backends.stores import kept_store
from sendnn_pipeline.config.schema import StageName
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact
from sendnn_pipeline.programs.key import ArtifactKey, artifact_keys
from sendnn_pipeline.programs.locks import unwritable
from sendnn_pipeline.programs.store import WORKING, ArtifactStore, Miss

# Larger files are compiled code, which nobody changes in place; what a library keeps account in is smaller.
LINKED_BYTES = 2**20
log = logging.getLogger(__name__)


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
    only_compiles: bool = False
    """Whether the run ends once all is compiled: then what the library keeps is what it is for."""

    def find(self) -> Artifact | Miss:
        """Return the verified artifact, or why it is missing."""
        return self.store.find(self.key, str)

    def publish(self) -> None:
        """Publish what the library left in the working folder, which stays as it is.

        Raises:
            ArtifactError: it left nothing to a run for that, or the store cannot be written.
        """
        if not any(file.is_file() for file in self.working.rglob("*")):
            says = f"{self.key.program} is compiled, and the backend's library left nothing of it in its cache"
            if self.only_compiles:
                raise ArtifactError(says, hint="does this release of it keep a cache?")
            log.warning("%s: every start compiles", says)
            return
        self.store.publish(self.key, self._fill, model=self.model)
        self.store.prune(self.max_bytes, frozenset((self.key.digest,)))

    def _fill(self, folder: Path) -> None:
        shutil.copytree(self.working, folder, copy_function=_link, dirs_exist_ok=True)


def library_set(run: Run, backend: CompileBackend, environ: Mapping[str, str]) -> LibrarySet | None:
    """Return the set of a run; None where the backend's library keeps no cache, or the user turned it off."""
    options, cache = run.config.artifacts, backend.own_cache
    store = kept_store(options, run.cache_dir, backend, environ)
    if store is None or cache is None:
        return None
    folder = cache.folder(environ, store.folder)
    # The variables of an engine that ran in this process, or of this engine itself.
    is_own = folder is not None and folder.name.startswith(WORKING)
    working = store.folder / (folder.name if folder and is_own else f"{WORKING}{uuid.uuid4().hex}")
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
    only_compiles = StageName.serve not in run.config.pipeline.stages
    store = replace(store, proven=run.proven)
    return LibrarySet(cache, keys.key(names), store, run.served_name, working, options.max_bytes, only_compiles)


def _ranks_here(run: Run) -> str:
    """Return whose parts of the model the folder has: each rank of this machine compiles its own into it."""
    here = run.config.parallel.local_ranks
    return str(World()) if run.plan.ranks == 1 else f"{here.start} to {here.stop - 1} of {run.plan.ranks}"


@dataclass(frozen=True)
class Filled:
    """A library's folder as the engine of a run has it."""

    publish: Callable[[], None]
    """To be called once everything is compiled."""
    missing: Miss | None = None
    """Why the library has to compile; None where it has what it needs, or keeps nothing."""


@contextmanager
def filling(library: LibrarySet | None, environ: Mapping[str, str], world: World) -> Iterator[Filled]:
    """Have the library's folder there while the engine runs.

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
        yield Filled(world.meet)
        return
    if world.local_rank:
        reason = library.store.why_missing(library.key)
        yield Filled(world.meet, Miss(reason) if reason else None)
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

        yield Filled(publish, found if isinstance(found, Miss) else None)


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
