"""The C++ compiler as users have it: of several words, in odd places, and with words of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import pytest

from sendnn_pipeline.backends.compiler import PREFIX, check_cache, check_compiler, what_failed
from sendnn_pipeline.errors import BackendError
from tests.served import FLOAT32, ROOT, environment, sendnn

RUN = (*FLOAT32, "backend=inductor", "pipeline=precompile", "warmup.shapes=[8x1]", "process.num_cpus=1")
IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def test_a_compiler_may_have_several_words():
    check_compiler({"CXX": "env g++", "PATH": os.environ["PATH"]})
    with pytest.raises(BackendError, match="no-such-compiler is not on PATH"):
        check_compiler({"CXX": "env no-such-compiler", "PATH": os.environ["PATH"]})


def test_the_path_of_the_cache_is_named(tmp_path):
    with pytest.raises(BackendError, match=r"cache has spaces in its path, .*/of a path; set cache_dir="):
        check_cache(tmp_path / "of a path")
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="cannot be written"):
        check_cache(tmp_path / "file")


def test_paths_with_spaces_that_the_compiler_cannot_be_given_are_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/of a container")
    with pytest.raises(BackendError, match=r"temporary folder has spaces .*: /tmp/of a container; set TMPDIR"):
        check_compiler(dict(os.environ))
    monkeypatch.setattr(sys, "prefix", "/opt/my env")
    with pytest.raises(BackendError, match=r"environment has spaces .*: /opt/my env; backend=eager"):
        check_compiler(dict(os.environ))


def test_a_cache_that_is_mounted_noexec_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(BackendError, match="is mounted noexec"):
        check_cache(tmp_path)


def test_what_a_dead_process_left_is_removed(tmp_path):
    old, new = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}new"
    for folder in (old, new):
        folder.mkdir()
    long_ago = time.time() - 100_000
    os.utime(old, (long_ago, long_ago))
    check_cache(tmp_path)
    assert not old.exists() and new.is_dir()


def test_the_compilers_own_words_are_the_reason():
    class CompileError(RuntimeError):
        output = "In file included from x.h:\nx.cpp:3:10: fatal error: omp.h: No such file\ncompilation terminated.\n"

    try:
        try:
            raise CompileError("C++ compile error\n\nCommand: ...")
        except CompileError as inner:
            raise RuntimeError("backend failed") from inner
    except RuntimeError as error:
        words = what_failed(error)
    assert words == "the C++ compiler says: x.cpp:3:10: fatal error: omp.h: No such file"
    assert what_failed(ValueError("")) == "ValueError: ?"


FAILING = """#!/bin/sh
case "$*" in *--version*|*-dump*) exec g++ "$@";; esac
echo "x.cpp:1: error: no space" >&2
exit 1
"""


@pytest.mark.slow
def test_a_compiler_that_fails_is_quoted(tiny, tmp_path):
    script = tmp_path / "g++"
    script.write_text(FAILING.replace("exec g++", f"exec {shutil.which('g++')}"))
    script.chmod(0o755)
    ended = sendnn(*RUN, f"model.path={tiny}", f"cache_dir={tmp_path / 'cache'}", timeout=280, CXX=str(script))
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert ended.returncode == 1 and len(errors) == 1, ended.stdout + ended.stderr
    assert "does not compile: the C++ compiler says: x.cpp:1: error: no space" in errors[0]
    assert list((tmp_path / "cache" / "inductor").glob(f"{PREFIX}*")) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_nothing_may_be_run_from_the_store_and_tmp_each_start_compiles_and_says_why(tiny, tmp_path):
    """As in a container with a read-only root: /tmp and the store are mounts without exec; the cache is a volume."""
    if not shutil.which("unshare") or subprocess.run([*IN_NAMESPACE, "true"], check=False).returncode:
        pytest.skip("mount namespaces are not to be had here")
    store, temporary = tmp_path / "store", tmp_path / "tmp"
    for folder in (store, temporary):
        folder.mkdir()
    mounts = " && ".join(f"mount -t tmpfs -o noexec,mode=0700 tmpfs '{folder}'" for folder in (store, temporary))
    words = [*RUN, f"model.path={tiny}", f"cache_dir={tmp_path / 'cache'}", f"artifacts.dir={store}"]
    run = " ".join(f"'{word}'" for word in (sys.executable, "-m", "sendnn_pipeline", *words))
    script = f"{mounts} && {run} && {run} && ls -A '{temporary}'; {run} artifacts.require=true"
    ended = subprocess.run(
        [*IN_NAMESPACE, "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=environment(TMPDIR=str(temporary), CXX="env g++"),
    )
    assert ended.stdout.count("is warm after") == 2, ended.stdout + ended.stderr
    reason = "cannot be opened: its file system is mounted noexec"
    assert ended.stdout.count(reason) == 1 and "is warm" in ended.stdout.splitlines()[-1], "something stays in /tmp"
    assert ended.returncode == 1 and reason in ended.stderr and "set artifacts.dir to a folder" in ended.stderr
