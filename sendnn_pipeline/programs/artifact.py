"""One published folder: its manifest, and the proof that its files are what was published."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.key import ArtifactKey

MANIFEST = "manifest.json"
MAX_NAME_BYTES = 255
OTHERS_READ, OTHERS_WRITE = stat.S_IRGRP | stat.S_IROTH, stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class FileState:
    """A file as it is now: while this is the same, what was found of its content is so, too."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class Artifact:
    """A folder with a readable manifest."""

    folder: Path
    key: ArtifactKey
    files: Mapping[str, tuple[int, str]]
    """Bytes and sha256 by name."""
    used: float
    """Unix time of the last use."""
    weights: str = ""
    """Digest of the only weights that it is for, where it holds some although its key does not say so."""
    model: str = ""
    """What the model was called that it was compiled for; others of its structure use it, too."""
    proven: frozenset[FileState] = frozenset()
    """Its files as they were when they were verified; none before that."""

    @property
    def size_bytes(self) -> int:
        """What its files take on disk."""
        return sum(size for size, _ in self.files.values())

    @property
    def manifest_digest(self) -> str:
        """What ``artifacts.trusted`` takes."""
        return file_digest(self.folder / MANIFEST)

    def verify(self, trusted: frozenset[str], proven: frozenset[FileState] = frozenset()) -> "Artifact":
        """Prove that every file is the one that was published, and that nobody else could have put it there.

        Args:
            trusted: digests of manifests that need no such owner and mode.
            proven: files whose digests were compared just now, which takes long for large ones.

        Returns:
            The same, with its files proven.

        Raises:
            ArtifactError: it is not; the message says what.
            OSError: a file cannot be read.
        """
        below = sorted(self.folder.rglob("*"))
        names = {name_in(self.folder, file) for file in below if not _is_folder(file)} - {MANIFEST}
        if names != set(self.files):
            lacks, more = sorted(self.files.keys() - names), sorted(names - self.files.keys())
            says = (
                f"it lacks {lacks[0]}, which its manifest names" if lacks else f"its manifest does not name {more[0]}"
            )
            raise ArtifactError(says)
        pinned = self.manifest_digest in trusted
        store = self.folder.parent
        for path in (store, self.folder, *below):
            facts = path.lstat()
            if stat.S_ISLNK(facts.st_mode) and path != store:
                raise ArtifactError(f"{path.name} is a link")
            if not pinned and (facts.st_uid not in (0, os.getuid()) or facts.st_mode & OTHERS_WRITE):
                raise ArtifactError(
                    f"{path} can be written by others (owner {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):o})",
                    hint=f"chmod -R go-w {store}, or trust it as it is: artifacts.trusted=[{self.manifest_digest}]",
                )
        states = set()
        for name, (size, digest) in self.files.items():
            state = _state(self.folder / name)
            if state.size_bytes != size:
                raise _altered(name, "size", f"{state.size_bytes} bytes", f"{size}")
            if state not in proven and (sha256 := file_digest(self.folder / name)) != digest:
                raise _altered(name, "sha256", sha256[:16], digest[:16])
            states.add(state)
        return replace(self, proven=frozenset(states))


def read_artifact(folder: Path) -> Artifact:
    """Read a folder's manifest; nothing is verified.

    Raises:
        ArtifactError: it is missing or broken.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        fields = tuple((str(name), str(value)) for name, value in manifest["key"])
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in manifest["files"].items()}
        weights, model = str(manifest.get("weights", "")), str(manifest.get("model", ""))
        used = (folder / MANIFEST).stat().st_mtime
        key = ArtifactKey(fields)
        # Every key has it.
        _ = key.program
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"its manifest cannot be read: {type(error).__name__}") from None
    if not all(map(is_below, files)):
        raise ArtifactError("its manifest names files elsewhere")
    return Artifact(folder, key, files, used, weights, model)


def write_manifest(folder: Path, key: ArtifactKey, weights: str, model: str) -> None:
    """Describe the files below ``folder``, have nobody else write them, and sync them.

    Who may read them the umask says, as of any file, whatever their writer made of it (safetensors lets nobody else):
    a deployment has them of one user and runs as another.
    """
    found = [file for file in sorted(folder.rglob("*")) if not _is_folder(file)]
    files = {name_in(folder, file): (file.stat().st_size, file_digest(file)) for file in found}
    manifest = {"key": key.fields, "files": files, "weights": weights, "model": model}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    readers = stat.S_IMODE((folder / MANIFEST).stat().st_mode) & OTHERS_READ
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode) & ~OTHERS_WRITE | readers
        # Who may read a folder may look into it, for which execution stands two bits below reading.
        path.chmod(mode | readers >> 2 if path.is_dir() else mode)
        sync(path)


def _state(file: Path) -> FileState:
    facts = file.stat()
    return FileState(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _altered(name: str, field: str, found: str, wanted: str) -> ArtifactError:
    return ArtifactError(f"{name} is not what was published: its {field} is {found}, and its manifest says {wanted}")


def is_below(name: str) -> bool:
    """Return whether a file's name, its folders parted by slashes, stays below the folder that it is of."""
    path = PurePosixPath(name)
    # What no file system takes is nowhere, either.
    fits = all(len(part.encode(errors="surrogatepass")) <= MAX_NAME_BYTES for part in path.parts)
    return bool(path.parts) and fits and str(path) == name and not path.is_absolute() and ".." not in path.parts


def name_in(folder: Path, file: Path) -> str:
    """Return a file's name in a manifest."""
    return file.relative_to(folder).as_posix()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def file_digest(file: Path) -> str:
    """Return a file's sha256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
