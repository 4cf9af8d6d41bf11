"""Where compiled Programs are kept: one folder an artifact, published whole, verified before it is used."""

import hashlib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from sendnn_pipeline.config.schema import ArtifactsConfig
from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.key import ArtifactKey

MANIFEST = "manifest.json"
PARTIAL = ".partial-"
# A folder half written is younger than this, or its writer is dead.
ABANDONED_SECONDS = 3600.0
UNWRITABLE = "set artifacts.dir to a folder that can be written, or artifacts.enabled=false"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def store_at(options: ArtifactsConfig, cache_dir: Path) -> "ArtifactStore":
    """Return the store that the options name."""
    folder = Path(options.dir).expanduser().absolute() if options.dir else cache_dir / "artifacts"
    return ArtifactStore(folder, frozenset(options.trusted))


@dataclass(frozen=True)
class Miss:
    """Why no artifact is used: one line."""

    reason: str


@dataclass(frozen=True)
class Artifact:
    """A published folder."""

    folder: Path
    key: ArtifactKey
    files: dict[str, tuple[int, str]]
    """Bytes and sha256 by name."""
    used: float
    """Unix time of the last use."""

    @property
    def size_bytes(self) -> int:
        """What its files take on disk."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True)
class ArtifactStore:
    """Artifacts below one folder.

    Native code is trusted when it and its folder belong to this user or to root and nobody else can write them, or
    when the digest of its manifest is in ``trusted``.
    """

    folder: Path
    trusted: frozenset[str] = frozenset()

    def find(self, key: ArtifactKey) -> Artifact | Miss:
        """Return the verified artifact of ``key``, or the reason why there is none."""
        folder = self._folder_of(key)
        while (before := _inode(folder)) is not None:
            try:
                artifact = self._read(folder)
                if artifact.key != key:
                    raise ArtifactError(f"its manifest is another's: {key.differences(artifact.key)[0]}")
                self.verify(artifact)
                break
            except (ArtifactError, OSError) as error:
                # Replaced by another process in the middle: look again.
                if _inode(folder) == before:
                    return Miss(f"{folder.name} is not used: {error}")
        else:
            return Miss(self._why_missing(key))
        # A store that is shared read-only knows no last use.
        with suppress(OSError):
            os.utime(folder / MANIFEST)
        return artifact

    def publish(self, key: ArtifactKey, write: Callable[[Path], None]) -> Artifact:
        """Have ``write`` fill a folder, then make it visible in one step, in place of a damaged one.

        Raises:
            ArtifactError: the store cannot be written.
        """
        partial = self.folder / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            self._make_folder()
            partial.mkdir(mode=0o700)
            write(partial)
            files = {file.name: (file.stat().st_size, _digest(file)) for file in sorted(partial.iterdir())}
            manifest = {"key": key.fields, "files": files}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
            for file in partial.iterdir():
                file.chmod(0o600)
                _sync(file)
            folder = self._folder_of(key)
            if folder.is_dir():
                self._discard(folder)
            partial.rename(folder)
            _sync(self.folder)
        except OSError as error:
            raise ArtifactError(
                f"artifacts cannot be written to {self.folder}: {error.strerror or error}", hint=UNWRITABLE
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self._read(folder)

    @contextmanager
    def compiling(self, key: ArtifactKey) -> Iterator[None]:
        """Hold the right to compile ``key``: a second process waits, then finds what the first published."""
        locks = self.folder / ".locks"
        try:
            self._make_folder()
            locks.mkdir(exist_ok=True, mode=0o700)
            lock = FileLock(locks / f"{key.digest}.lock")
            lock.acquire()
        except OSError as error:
            raise ArtifactError(
                f"artifacts cannot be written to {self.folder}: {error.strerror or error}", hint=UNWRITABLE
            ) from None
        try:
            yield
        finally:
            lock.release()

    def entries(self) -> list[Artifact]:
        """Return every artifact with a readable manifest, last used first; nothing is verified."""
        found = []
        for folder in self._folders():
            try:
                found.append(self._read(folder))
            except ArtifactError:
                continue
        return sorted(found, key=lambda artifact: -artifact.used)

    def damaged(self) -> dict[Path, str]:
        """Return the folders that are not to be used, each with the reason."""
        problems = {}
        for folder in self._folders():
            try:
                self.verify(self._read(folder))
            except (ArtifactError, OSError) as error:
                problems[folder] = str(error)
        return problems

    def prune(self, max_bytes: int, keep: frozenset[str] = frozenset()) -> list[Artifact]:
        """Remove what was used longest ago until the rest fits ``max_bytes``, and what dead processes left behind.

        Args:
            max_bytes: what may stay.
            keep: digests of keys that stay in any case.
        """
        for left in self.folder.glob(f"{PARTIAL}*"):
            # Whoever prunes at the same time may have been quicker, here and below.
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        total, removed = 0, []
        entries = self.entries()
        for artifact in sorted(entries, key=lambda entry: entry.key.digest not in keep):
            total += artifact.size_bytes
            if total > max_bytes and artifact.key.digest not in keep:
                total -= artifact.size_bytes
                with suppress(FileNotFoundError):
                    self._discard(artifact.folder)
                    removed.append(artifact)
        return removed

    def verify(self, artifact: Artifact) -> None:
        """Prove that every file is the one that was published, and that nobody else could have put it there.

        Raises:
            ArtifactError: it is not; the message says what.
        """
        folder = artifact.folder
        pinned = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() in self.trusted
        names = {file.name for file in folder.iterdir()} - {MANIFEST}
        if names != set(artifact.files):
            raise ArtifactError(f"it holds {sorted(names)}, and its manifest names {sorted(artifact.files)}")
        for path in (self.folder, folder, *(folder / name for name in (MANIFEST, *artifact.files))):
            facts = path.lstat()
            if stat.S_ISLNK(facts.st_mode) and path != self.folder:
                raise ArtifactError(f"{path.name} is a link")
            if not pinned and (facts.st_uid not in (0, os.getuid()) or facts.st_mode & OTHERS_WRITE):
                raise ArtifactError(
                    f"{path} can be written by others (owner {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):o})",
                    hint="take their rights away, or name the manifest's sha256 in artifacts.trusted",
                )
        for name, (size, digest) in artifact.files.items():
            if (folder / name).stat().st_size != size or _digest(folder / name) != digest:
                raise ArtifactError(f"{name} is not what was published")

    def _make_folder(self) -> None:
        """Make the folder writable by nobody else, whatever the umask: else nothing in it would be trusted."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _folder_of(self, key: ArtifactKey) -> Path:
        name = "".join(character if character.isalnum() or character in ".=-" else "-" for character in key.program)
        return self.folder / f"{name.strip('-')}-{key.digest}"

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _read(self, folder: Path) -> Artifact:
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            fields = tuple((str(name), str(value)) for name, value in manifest["key"])
            files = {str(name): (int(size), str(digest)) for name, (size, digest) in manifest["files"].items()}
            used = (folder / MANIFEST).stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"its manifest cannot be read: {type(error).__name__}") from None
        if any(Path(name).name != name for name in files):
            raise ArtifactError("its manifest names files elsewhere")
        return Artifact(folder, ArtifactKey(fields), files, used)

    def _why_missing(self, key: ArtifactKey) -> str:
        same = [entry for entry in self.entries() if entry.key.program == key.program]
        if not same:
            return "none is kept of this Program"
        nearest = min(same, key=lambda entry: len(key.differences(entry.key)))
        differences = key.differences(nearest.key)
        return differences[0] if differences else "another process has published it just now"

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


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
