"""Artifacts as one file: a tar without compression, its index first, checked whole before anything of it is used.

Nothing in it decides where something is written: a member's name is compared with the index, and the index's names
are those of artifacts, whose folders are computed from their keys.
"""

import io
import json
import os
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact, is_below, read_artifact
from sendnn_pipeline.programs.locks import make_store, unwritable
from sendnn_pipeline.programs.store import PARTIAL, ArtifactStore
from sendnn_pipeline.programs.times import StepTimes, read_steps

INDEX = "sendnn_pipeline-artifacts.json"
FORM, STEP_MS = 1, "step_ms"
MAX_INDEX_BYTES = 64 * 2**20
COPY_BYTES = 2**20
HINT = "export it again: nothing of it was taken"


def export_artifacts(artifacts: Sequence[Artifact], file: Path, step_ms: Mapping[str, Any]) -> None:
    """Write verified artifacts into ``file``, which appears whole or not at all.

    Args:
        artifacts: of a run, or of a store.
        file: that is written.
        step_ms: what their steps took, by name, as ``StepTimes`` has it: a machine of this kind need not measure.

    Raises:
        ArtifactError: it cannot be written.
    """
    partial = file.with_name(f"{file.name}{PARTIAL}{uuid.uuid4().hex}")
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            index = [_listed(artifact) for artifact in artifacts]
            content = json.dumps({"form": FORM, "artifacts": index, STEP_MS: step_ms}, indent=1).encode()
            tar.addfile(_member(INDEX, len(content)), io.BytesIO(content))
            for artifact, entry in zip(artifacts, index, strict=True):
                for name, size in entry["files"].items():
                    with (artifact.folder / name).open("rb") as stream:
                        tar.addfile(_member(f"{artifact.folder.name}/{name}", size), stream)
        partial.replace(file)
    except OSError as error:
        raise ArtifactError(f"{file} cannot be written: {error.strerror or error}", hint="name another file") from None
    finally:
        partial.unlink(missing_ok=True)


def import_artifacts(file: Path, store: ArtifactStore, max_bytes: int) -> list[Artifact]:
    """Take the artifacts of ``file`` into the store, once all of it is read and every one is verified.

    Args:
        file: that was exported.
        store: takes them; an artifact of the same key is replaced.
        max_bytes: what all of it may come to.

    Raises:
        ArtifactError: it is not such a file, or a part of it is not what was exported; then nothing is taken.
    """
    aside = store.folder / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        make_store(store.folder)
        aside.mkdir(mode=0o700)
        with _reading(file) as members:
            index = _unpack(members, aside, max_bytes)
            digests = {folder: entry["manifest"] for folder, entry in index.listed.items()}
            checked = [_checked(aside / folder, folder, digest, store) for folder, digest in digests.items()]
        taken = [read_artifact(store.reveal(artifact.folder, artifact.key)) for artifact in checked]
        StepTimes((store.folder,)).add(index.step_ms)
        return taken
    except OSError as error:
        raise unwritable(store.folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class _Member:
    info: tarfile.TarInfo
    content: IO[bytes]


@contextmanager
def _reading(file: Path) -> Iterator[Iterator[_Member]]:
    """Yield the members in order; each is a plain file, whatever it says it is."""

    def members(tar: tarfile.TarFile) -> Iterator[_Member]:
        for info in tar:
            content = tar.extractfile(info) if info.isreg() and not info.issparse() else None
            if content is None:
                raise ArtifactError(f"{info.name[:100]} in it is not a plain file")
            yield _Member(info, content)

    try:
        stream = file.open("rb")
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}", hint="name a file of catalog export") from None
    with stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                yield members(tar)
        except (tarfile.TarError, EOFError, ValueError) as error:
            why = f"it is cut off, or of another form: {' '.join(str(error).split())}"
            raise ArtifactError(f"{file} is not taken: {why}", hint=HINT) from None
        except ArtifactError as error:
            raise ArtifactError(f"{file} is not taken: {error.message}", hint=error.hint or HINT) from None


@dataclass(frozen=True)
class _Index:
    listed: Mapping[str, Any]
    """By the name of an artifact's folder."""
    step_ms: Mapping[str, Any]


def _unpack(members: Iterator[_Member], aside: Path, max_bytes: int) -> _Index:
    """Write the members that the index names, and return it."""
    first = next(members, None)
    if first is None or first.info.name != INDEX or first.info.size > MAX_INDEX_BYTES:
        raise ArtifactError(f"it does not begin with {INDEX}")
    index = _read_index(first.content.read())
    sizes = {
        f"{folder}/{name}": size for folder, entry in index.listed.items() for name, size in entry["files"].items()
    }
    if (total := sum(sizes.values())) > max_bytes:
        raise ArtifactError(
            f"it comes to {total} bytes, and artifacts.max_bytes is {max_bytes}", hint="raise artifacts.max_bytes"
        )
    for member in members:
        name, size = member.info.name, member.info.size
        if sizes.pop(name, None) != size:
            raise ArtifactError(f"{name[:100]} in it is not in its index, or twice, or of another size")
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # Whatever the umask, nobody else may write it.
        with open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o644)) as written:
            shutil.copyfileobj(member.content, written, COPY_BYTES)
    if sizes:
        raise ArtifactError(f"it lacks {next(iter(sizes))}")
    return index


def _read_index(content: bytes) -> _Index:
    try:
        index = json.loads(content)
        form, listed = index["form"], {str(entry["folder"]): entry for entry in index["artifacts"]}
        names = [name for folder, entry in listed.items() for name in (folder, *entry["files"])]
        sizes = [size for entry in listed.values() for size in entry["files"].values()]
        whole = all(isinstance(entry["manifest"], str) and MANIFEST in entry["files"] for entry in listed.values())
        step_ms = {str(name): steps for name, steps in index.get(STEP_MS, {}).items() if read_steps(steps)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"its index cannot be read: {type(error).__name__}") from None
    if form != FORM:
        raise ArtifactError(f"its form is {form}, and this version reads {FORM}", hint="export it by this version")
    if not listed:
        raise ArtifactError("there are no artifacts in it")
    if not whole or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ArtifactError("its index is not complete")
    if not all(map(is_below, names)) or any("/" in folder or folder.startswith(".") for folder in listed):
        raise ArtifactError("its index names files elsewhere")
    for entry in listed.values():
        folders = {str(parent) for name in entry["files"] for parent in PurePosixPath(name).parents}
        if both := folders & entry["files"].keys():
            raise ArtifactError(f"its index names {min(both)} as a file and as a folder")
    return _Index(listed, step_ms)


def _checked(unpacked: Path, name: str, digest: str, store: ArtifactStore) -> Artifact:
    """Return an unpacked artifact, verified, under the name that its key gives it."""
    artifact = read_artifact(unpacked)
    if artifact.manifest_digest != digest:
        raise ArtifactError(f"{MANIFEST} of {name} is not what was exported: its sha256 is another than the index says")
    if store.name_of(artifact.key) != name:
        raise ArtifactError(f"{name} in it is the artifact of another key: {store.name_of(artifact.key)}")
    artifact.verify(frozenset())
    return artifact


def _listed(artifact: Artifact) -> dict[str, Any]:
    manifest = (artifact.folder / MANIFEST).stat().st_size
    files: Mapping[str, int] = {MANIFEST: manifest, **{name: size for name, (size, _) in artifact.files.items()}}
    return {"folder": artifact.folder.name, "manifest": artifact.manifest_digest, "files": files}


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return the head of a member: nothing of who exported it, or when."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info
