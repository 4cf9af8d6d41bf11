"""The C++ compiler as users have it: of several words, in odd places, and with words of its own."""

import os
import shutil
import sys
import tempfile
import time
from types import SimpleNamespace

import pytest

from sendnn_pipeline.backends.compiler import PREFIX, check_cache, check_compiler, what_failed
from sendnn_pipeline.errors import BackendError
from tests.served import FLOAT32

RUN = (*FLOAT32, "backend=inductor", "pipeline=precompile", "warmup.shapes=[8x1]", "process.num_cpus=1")


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


def test_instructions_are_those_whose_flags_the_compiler_takes(tmp_path):
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import VecAMX, VecAVX2, VecISA, invalid_vec_isa

    from sendnn_pipeline.backends.instructions import asked_by_flags, takes_flags

    assert takes_flags(invalid_vec_isa)
    # An old compiler.
    old = tmp_path / "g++-10"
    old.write_text('#!/bin/sh\ncase "$*" in *-mamx*) exit 1 ;; *--version*) echo g++ 10 ;; esac\n')
    old.chmod(0o700)
    builds = VecISA.check_build
    with config.patch({"cpp.cxx": (None, str(old))}), asked_by_flags():
        assert VecAVX2().check_build("") and not VecAMX().check_build("")
    assert VecISA.check_build is builds


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
def test_a_compiler_that_fails_is_quoted(tiny, tmp_path, whole_run):
    script = tmp_path / "g++"
    script.write_text(FAILING.replace("exec g++", f"exec {shutil.which('g++')}"))
    script.chmod(0o755)
    cache = tmp_path / "inductor"
    words = (*RUN, f"model.path={tiny}", f"artifacts.dir={tmp_path / 'artifacts'}")
    ended = whole_run(*words, CXX=str(script), TORCHINDUCTOR_CACHE_DIR=str(cache))
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert ended.returncode == 1 and len(errors) == 1, ended.stdout + ended.stderr
    assert "does not compile: the C++ compiler says: x.cpp:1: error: no space" in errors[0]
    assert cache.is_dir() and list(cache.glob(f"{PREFIX}*")) == []
