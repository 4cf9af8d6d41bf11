"""The C++ compiler that inductor calls: is it here, may it work where it is to work, and what did it say. No torch."""

import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sendnn_pipeline.errors import BackendError

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
# Folders of Programs that are compiled but not yet stored; one that is older than this was left by a dead process.
PREFIX = "sendnn_pipeline-"
ABANDONED_SECONDS = 6 * 3600.0
EAGER = "backend=eager runs without a compiler"


def compiler_words(environ: Mapping[str, str]) -> list[str]:
    """Return the compiler's command: ``CXX``, which may have several words such as ``ccache g++``, else g++."""
    return shlex.split(environ.get("CXX", "")) or ["g++"]


def check_compiler(environ: Mapping[str, str]) -> None:
    """Find the C++ compiler and Python's headers.

    Raises:
        BackendError: one is missing, or has a path that the compiler cannot be given.
    """
    for word in (words := compiler_words(environ))[:1] + words[-1:]:
        if shutil.which(word, path=environ.get("PATH")) is None:
            raise BackendError(
                f"backend=inductor needs a C++ compiler, and {word} is not on PATH",
                hint="install g++, set CXX, or use backend=eager",
            )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        raise BackendError(
            f"backend=inductor needs Python's headers, and {header} is missing",
            hint="install the python3-dev package, or use backend=eager",
        )
    for what, path in (("Python's environment", sys.prefix), ("the temporary folder", tempfile.gettempdir())):
        check_spaces(what, path, EAGER if path == sys.prefix else "set TMPDIR to a path without")


def check_cache(folder: Path) -> None:
    """Make the compiler's cache, and prove that it can be written and that what is compiled there can be opened.

    Raises:
        BackendError: it cannot.
    """
    check_spaces("the compiler's cache", str(folder), "set cache_dir= to a path without")
    check_writable(folder)
    if mounted_noexec(folder):
        raise BackendError(
            f"the compiler's cache {folder} is mounted noexec: what is compiled there cannot be opened",
            hint="set cache_dir= to a folder that can",
        )
    for left in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left)


def check_spaces(what: str, path: str, hint: str) -> None:
    """Refuse a path that torch cannot hand to the compiler.

    Raises:
        BackendError: it has spaces.
    """
    if any(map(str.isspace, path)):
        raise BackendError(f"{what} has spaces in its path, and nothing can be compiled there: {path}", hint=hint)


def check_writable(folder: Path) -> None:
    """Make ``folder`` and prove that files can be written there.

    Raises:
        BackendError: they cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(
            f"the compiler's cache {folder} cannot be written: {error.strerror}",
            hint="set cache_dir= to a folder that can",
        ) from None


def mounted_noexec(folder: Path) -> bool:
    """Return whether no library can be opened in ``folder``, as in a tmpfs of Docker's."""
    return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


def single_command(words: list[str], folder: Path) -> str:
    """Return one word that runs the compiler: a script in ``folder`` where its command has several.

    Torch takes only one; the script's name says which compiler it is, as torch goes by that.
    """
    if len(words) == 1:
        return words[0]
    script = folder / "-".join(Path(word).name for word in words)
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return str(script)


def what_failed(error: BaseException) -> str:
    """Return why compiling failed as one line: the compiler's own words where there are some."""
    cause: BaseException | None = error
    while cause is not None:
        output = getattr(cause, "output", None)
        if isinstance(output, str) and output.strip():
            lines = [line.strip() for line in output.splitlines() if line.strip()]
            reason = next((line for line in lines if "error:" in line or "error " in line), lines[-1])
            return f"the C++ compiler says: {reason[:300]}"
        cause = cause.__cause__ or cause.__context__
    first = (str(error).strip().splitlines() or ["?"])[0]
    return f"{type(error).__name__}: {first[:300]}"
