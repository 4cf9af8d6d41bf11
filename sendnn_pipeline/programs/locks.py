"""Locks of a store: on a key that is compiled, and on a folder in which a process works. A dead process holds none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sendnn_pipeline.errors import ArtifactError

LOCKS = ".locks"
UNWRITABLE = "set artifacts.dir to a folder that can be written, or artifacts.enabled=false"


def make_store(folder: Path) -> None:
    """Make a store's folder writable by nobody else, whatever the umask: else nothing in it would be trusted."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)


def unwritable(folder: Path, error: OSError) -> ArtifactError:
    """Return the error of a store that cannot be written."""
    reason = error.strerror or str(error)
    if isinstance(error, shutil.Error):
        # Of a tree of files, each that could not be copied.
        *_, reason = error.args[0][0]
    return ArtifactError(f"artifacts cannot be written to {folder}: {reason}", hint=UNWRITABLE)


@contextmanager
def locked(store: Path, name: str) -> Iterator[None]:
    """Wait for the lock of this name, and have it in the block.

    Raises:
        ArtifactError: the store cannot be written.
    """
    try:
        make_store(store)
        (store / LOCKS).mkdir(exist_ok=True, mode=0o700)
        lock = FileLock(store / LOCKS / f"{name}.lock")
        lock.acquire()
    except OSError as error:
        raise unwritable(store, error) from None
    try:
        yield
    finally:
        lock.release()


def has_owner(store: Path, name: str) -> bool:
    """Return whether a process has the lock of this name."""
    with suppress(Timeout, OSError), FileLock(store / LOCKS / f"{name}.lock", timeout=0):
        return False
    return True


def forget_lock(store: Path, name: str) -> None:
    """Remove the lock of a name that nobody uses again."""
    with suppress(OSError):
        (store / LOCKS / f"{name}.lock").unlink()
