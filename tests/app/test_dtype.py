"""``model.dtype=auto``: what it becomes on a CPU that computes bfloat16, on one that does not, and on this one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.machine import cpu
from tests.conftest import resolved_run
from tests.processes import cpu_answer

BOTH = pytest.mark.parametrize("answer", [cpu_answer.BFLOAT16, cpu_answer.FLOAT32])
REASON = {
    cpu_answer.BFLOAT16: "this CPU computes bfloat16",
    cpu_answer.FLOAT32: "this CPU does not compute bfloat16",
}


@BOTH
def test_auto_follows_the_cpu_and_says_so(tiny, monkeypatch, answer):
    monkeypatch.setenv(cpu_answer.VARIABLE, answer)
    found = resolved_run(["model=local", f"model.path={tiny}", "backend=eager"])
    assert found.run.config.model.dtype == answer
    assert found.draft.where("model.dtype") == REASON[answer]


@BOTH
def test_a_dtype_that_is_named_stays_on_every_cpu(tiny, monkeypatch, answer):
    monkeypatch.setenv(cpu_answer.VARIABLE, answer)
    for dtype in ("float32", "bfloat16", "float16"):
        found = resolved_run(["model=local", f"model.path={tiny}", "backend=eager", f"model.dtype={dtype}"])
        assert found.run.config.model.dtype == dtype


@BOTH
def test_auto_is_what_the_backend_computes(tiny, monkeypatch, answer):
    monkeypatch.setenv(cpu_answer.VARIABLE, answer)
    monkeypatch.setattr(EagerBackend, "limits", replace(EagerBackend.limits, dtypes=("float16", "float32")))
    words = ["model=local", f"model.path={tiny}", "backend=eager"]
    found = resolved_run(words)
    assert found.run.config.model.dtype == "float16"
    assert found.draft.where("model.dtype") == "what the backend computes"
    with pytest.raises(ConfigError, match=r"model\.dtype=bfloat16 is not computed by eager .*; use float16, float32"):
        resolved_run([*words, "model.dtype=bfloat16"])


def test_a_whole_run_with_auto_on_this_machine(tiny, echo_run):
    words = ("model=local", f"model.path={tiny}", "backend=eager", "engine=echo", "pipeline=precompile")
    ended = echo_run(*words, TESTS_CPU_ANSWER=cpu_answer.MACHINE)
    assert ended.returncode == 0 and "is warm after" in ended.stdout, ended.stdout + ended.stderr
    answer = cpu_answer.BFLOAT16 if cpu.computes_bfloat16(Path("/proc/cpuinfo")) else cpu_answer.FLOAT32
    (line,) = re.findall(r"^dtype .*$", ended.stdout, re.MULTILINE)
    assert line == f"dtype    {answer}  ({REASON[answer]})"
