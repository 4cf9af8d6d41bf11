"""One job of a sweep: a run in a process of its own, which ends as a row whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

# What an engine may take to see that its parent is gone.
ENGINE_SECONDS = 2.0
ROW_FILE, LOG_FILE, RESULT_FILE = "row.json", "log.txt", "bench.json"


class Row(msgspec.Struct, frozen=True):
    """How a job ended, and what it measured."""

    number: int
    words: list[str]
    seconds: float
    exit_code: int
    reason: str = ""
    """Why it failed; empty when it did not."""
    result: dict[str, Any] | None = None
    """What bench wrote."""


def run_job(number: int, words: Sequence[str], flags: Sequence[str], folder: Path, limit_seconds: float) -> Row:
    """Run the words in a fresh interpreter: threads, import-time environment and compilers are process-wide.

    Args:
        number: of the job.
        words: its command line.
        flags: what stands before the words, such as ``--config-dir``.
        folder: takes its log, its result and its row.
        limit_seconds: after which it is killed with all its children.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (folder / LOG_FILE).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sendnn_pipeline", *flags, *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        late = False
        try:
            process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            # Also on Ctrl-C: the job and its engine are one session, and none of it stays.
            _kill_session(process.pid)
            process.wait()
    reason = (
        f"killed after {limit_seconds:g} s (sweep.job_timeout_seconds)" if late else _reason(process.returncode, folder)
    )
    result = _result(folder) if not reason else None
    row = Row(number, list(words), time.monotonic() - began, process.returncode, reason, result)
    (folder / ROW_FILE).write_bytes(msgspec.json.encode(row))
    return row


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of all jobs below ``folder`` that ended, by number."""
    rows = [msgspec.json.decode(file.read_bytes(), type=Row) for file in folder.glob(f"*/{ROW_FILE}")]
    return sorted(rows, key=lambda row: row.number)


def forget_rows(folder: Path) -> None:
    """Remove what an earlier sweep left in ``folder``: its jobs are not this one's."""
    for name in (ROW_FILE, RESULT_FILE):
        for file in folder.glob(f"*/{name}"):
            file.unlink()


def _kill_session(pid: int) -> None:
    """End the job; its engine ends with it, removing what is temporary, and what does not is ended, too."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    others = [process for process in psutil.process_iter() if process.pid != pid and _session_of(process.pid) == pid]
    _, alive = psutil.wait_procs(others, timeout=ENGINE_SECONDS)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _reason(exit_code: int, folder: Path) -> str:
    if exit_code == 0:
        return ""
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    lines = (folder / LOG_FILE).read_text(errors="replace").splitlines()
    message = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    return message.removeprefix("error: ") or f"exit code {exit_code}; see {folder / LOG_FILE}"


def _result(folder: Path) -> dict[str, Any] | None:
    file = folder / RESULT_FILE
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Any]) if file.is_file() else None
