"""The store of compiled Programs: one folder an artifact, published whole, verified before it is used."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.config.schema import ArtifactsConfig
from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact, FileState, read_artifact, sync, write_manifest
from sendnn_pipeline.programs.key import ArtifactKey
from sendnn_pipeline.programs.locks import forget_lock, has_owner, locked, make_store, unwritable
from sendnn_pipeline.programs.nearest import candidate, nearest_table

PARTIAL, SET_ASIDE, WORKING = ".partial-", ".set-aside-", ".working-"
# Of a folder's name, what stands before the digest: the Programs of a device's set have one together.
MAX_NAME = 120
# A folder half written is younger than this, or its writer is dead.
ABANDONED_SECONDS = 3600.0


def store_at(options: ArtifactsConfig, cache_dir: Path) -> "ArtifactStore":
    """Return the store that the options name."""
    folder = expand_path(options.dir, "artifacts.dir") if options.dir else cache_dir / "artifacts"
    return ArtifactStore(folder, frozenset(options.trusted))


@dataclass(frozen=True)
class Miss:
    """Why no artifact is used: one line."""

    reason: str
    advice: str = "compile it first with pipeline=precompile"
    """What to do where nothing may be compiled."""


@dataclass(frozen=True)
class ArtifactStore:
    """Artifacts below one folder.

    Native code is trusted when it and its folder belong to this user or to root and nobody else can write them, or
    when the digest of its manifest is in ``trusted``.
    """

    folder: Path
    trusted: frozenset[str] = frozenset()
    proven: frozenset[FileState] = frozenset()
    """Files whose digests were compared at this start, and are not computed again."""

    def find(self, key: ArtifactKey, weights: Callable[[], str]) -> Artifact | Miss:
        """Return the verified artifact of ``key``, or the reason why it is missing.

        Args:
            key: of the Program.
            weights: gives the digest of the run's weights, for artifacts that hold some.
        """
        folder = self._folder_of(key)
        while (before := _inode(folder)) is not None:
            try:
                artifact = read_artifact(folder)
                if artifact.key != key:
                    raise ArtifactError(f"its manifest is another's: {key.differences(artifact.key)[0]}")
                artifact = artifact.verify(self.trusted, self.proven)
                if artifact.weights and artifact.weights != weights():
                    raise ArtifactError("it holds parameters of other weights")
                break
            except (ArtifactError, OSError) as error:
                # Replaced by another process in the middle: look again.
                if _inode(folder) == before:
                    return self._unusable(folder, error)
        else:
            return Miss(self._why_missing(key))
        # A store that is shared read-only knows no last use.
        with suppress(OSError):
            os.utime(folder / MANIFEST)
        return artifact

    def why_missing(self, key: ArtifactKey) -> str:
        """Return why there is no artifact of ``key``; empty where there is one, which is verified when it is opened."""
        try:
            return "" if read_artifact(self._folder_of(key)).key == key else self._why_missing(key)
        except (ArtifactError, OSError):
            return self._why_missing(key)

    def nearest(self, key: ArtifactKey) -> tuple[str, ...]:
        """Return a table of the artifacts that come nearest to ``key``; nothing where the store is empty."""
        return nearest_table(
            candidate("", key).fields, (candidate(entry.key.digest[:8], entry.key) for entry in self.entries())
        )

    def publish(self, key: ArtifactKey, write: Callable[[Path], None], weights: str = "", model: str = "") -> Artifact:
        """Have ``write`` fill a folder, then make it visible in one step, replacing a damaged one.

        Args:
            key: of the Program.
            write: fills the empty folder.
            weights: digest of the only weights that it is for, where the key does not say so.
            model: what the model is called, for people.

        Raises:
            ArtifactError: the store cannot be written.
        """
        partial = self.folder / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            make_store(self.folder)
            partial.mkdir(mode=0o755)
            write(partial)
            write_manifest(partial, key, weights, model)
            folder = self.reveal(partial, key)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return read_artifact(folder)

    def reveal(self, partial: Path, key: ArtifactKey) -> Path:
        """Make a folder below the store's, which is whole, the artifact of ``key``, and set aside what it replaces.

        Raises:
            OSError: the store cannot be written.
        """
        folder = self._folder_of(key)
        if folder.is_dir():
            self._set_aside(folder)
        partial.rename(folder)
        sync(self.folder)
        return folder

    @contextmanager
    def compiling(self, key: ArtifactKey) -> Iterator[None]:
        """Hold the right to compile ``key``: a second process waits, then finds what the first published."""
        with locked(self.folder, key.digest):
            yield

    @contextmanager
    def working(self, folder: Path) -> Iterator[None]:
        """Have an empty folder below the store's while the block runs; what a killed process leaves is pruned."""
        try:
            with locked(self.folder, folder.name):
                try:
                    folder.mkdir(mode=0o700, exist_ok=True)
                    yield
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            forget_lock(self.folder, folder.name)

    def entries(self) -> list[Artifact]:
        """Return every artifact with a readable manifest, last used first; nothing is verified."""
        found = []
        for folder in self._folders():
            try:
                found.append(read_artifact(folder))
            except ArtifactError:
                continue
        return sorted(found, key=lambda artifact: -artifact.used)

    def damaged(self) -> dict[Path, str]:
        """Return the folders that are not to be used, each with the reason."""
        problems = {}
        for folder in self._folders():
            try:
                read_artifact(folder).verify(self.trusted)
            except (ArtifactError, OSError) as error:
                problems[folder] = str(error)
        return problems

    def prune(self, max_bytes: int, keep: frozenset[str] = frozenset()) -> list[Artifact]:
        """Remove what was used longest ago until the rest fits ``max_bytes``, and what dead processes left behind.

        Args:
            max_bytes: what may stay.
            keep: digests of keys that stay in any case.
        """
        for left in (*self.folder.glob(f"{PARTIAL}*"), *self.folder.glob(f"{SET_ASIDE}*")):
            # Whoever prunes at the same time may have been quicker, here and below.
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        for left in self.folder.glob(f"{WORKING}*"):
            if not has_owner(self.folder, left.name):
                shutil.rmtree(left, ignore_errors=True)
                forget_lock(self.folder, left.name)
        total, removed = 0, []
        for artifact in sorted(self.entries(), key=lambda entry: entry.key.digest not in keep):
            total += artifact.size_bytes
            if total > max_bytes and artifact.key.digest not in keep:
                total -= artifact.size_bytes
                with suppress(FileNotFoundError):
                    self._discard(artifact.folder)
                    removed.append(artifact)
        return removed

    def name_of(self, key: ArtifactKey) -> str:
        """Return the name of an artifact's folder."""
        name = "".join(character if character.isalnum() or character in ".=-" else "-" for character in key.program)
        return f"{name.strip('-')[:MAX_NAME]}-{key.digest}"

    def _folder_of(self, key: ArtifactKey) -> Path:
        return self.folder / self.name_of(key)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _why_missing(self, key: ArtifactKey) -> str:
        same = [entry for entry in self.entries() if entry.key.program == key.program]
        if not same:
            return "no artifact of this Program yet"
        nearest = min(same, key=lambda entry: len(key.differences(entry.key)))
        differences = key.differences(nearest.key)
        return differences[0] if differences else "another process has published it just now"

    def _unusable(self, folder: Path, error: ArtifactError | OSError) -> Miss:
        if isinstance(error, ArtifactError):
            return Miss(f"{folder.name} is not used: {error.message}", error.hint or Miss.advice)
        if isinstance(error, PermissionError):
            readable = f"its owner makes it readable with chmod -R a+rX {self.folder}"
            return Miss(f"{folder.name} is not used: this user may not read {error.filename}; {readable}")
        return Miss(f"{folder.name} is not used: {error}")

    def _set_aside(self, folder: Path) -> None:
        """Take what was not to be used out of sight in one step; the latest stays for whoever wants to know."""
        aside = self.folder / f"{SET_ASIDE}{folder.name}"
        with suppress(FileNotFoundError):
            self._discard(aside)
        folder.rename(aside)

    def _discard(self, folder: Path) -> None:
        """Take a folder out of sight in one step, then delete it: nobody reads a half."""
        gone = self.folder / f"{PARTIAL}{uuid.uuid4().hex}"
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None
