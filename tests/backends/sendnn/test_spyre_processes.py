"""Processes that fill one folder of the library's cache at once, and one that is killed while it does."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.emulators.install import install
from tests.served import ROOT, environment, sendnn

PROGRAM = "pool[batch=1,len=64]"


@pytest.fixture
def fill(tiny, tmp_path):
    """Start a process that compiles a model into the folder, without a card."""
    words = ("model=local", f"model.path={tiny}", "backend=sendnn_compile_only", "pipeline=precompile")
    path = install("torch_sendnn", tmp_path / "site")

    def fill(folder, compile_seconds: float = 0.0) -> subprocess.Popen:
        variables = environment(
            PYTHONPATH=path,
            TORCH_SENDNN_CACHE_ENABLE="1",
            TORCH_SENDNN_CACHE_DIR=str(folder),
            TORCH_SENDNN_EMULATED_COMPILE_SECONDS=str(compile_seconds),
            SENDNN_PIPELINE__cache_dir=str(tmp_path / "cache"),
        )
        command = [sys.executable, "-m", "sendnn_pipeline", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # A session of its own, so that all of its processes can be killed at once.
        return subprocess.Popen(command, text=True, cwd=ROOT, env=variables, start_new_session=True, **pipes)

    return fill


def is_whole(folder, tmp_path):
    """Return whether the folder has the one set, verified, and nothing that somebody left."""
    where = (f"artifacts.dir={folder}", f"cache_dir={tmp_path / 'cache'}")
    verified = sendnn("catalog", "verify", *where)
    left = [path.name for path in folder.iterdir() if path.name.startswith((".working", ".partial", ".set-aside"))]
    return verified.returncode == 0 and "1 artifact, 0 not to be used" in verified.stdout and not left


def test_of_two_that_fill_a_folder_at_once_one_compiles_and_the_other_finds(fill, tmp_path):
    folder = tmp_path / "kept"
    with fill(folder, 3.0) as one, fill(folder, 3.0) as other:
        said = [process.communicate(timeout=120)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], said
    ended = [line for text in said for line in text.splitlines() if f"compile 1/1 {PROGRAM}" in line]
    ways = sorted(way for line in ended for way in (", artifact", ", compiled") if way in line)
    assert ways == [", artifact", ", compiled"], said
    assert is_whole(folder, tmp_path)


def test_one_that_is_killed_in_the_middle_leaves_a_folder_that_the_next_fills(fill, tmp_path):
    folder = tmp_path / "kept"
    with fill(folder, 600.0) as killed:
        ends = time.monotonic() + 120
        while not (half := list(folder.glob(".working-*/*.json"))) or not half[0].stat().st_size:
            assert time.monotonic() < ends and killed.poll() is None, "it did not come to write"
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    assert half[0].exists() and not list(folder.glob("pool*"))
    with fill(folder) as after:
        said, _ = after.communicate(timeout=120)
    assert after.returncode == 0 and ", compiled" in said, said
    assert is_whole(folder, tmp_path)
    with fill(folder) as again:
        said, _ = again.communicate(timeout=120)
    assert ", artifact" in said and ", compiled" not in said, said
