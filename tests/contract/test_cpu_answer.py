"""That a test which does not say its dtype fails: in this process, in those that it starts, and in theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sendnn_pipeline.machine import cpu
from tests.conftest import resolved_run
from tests.plugins.site import python_with
from tests.plugins.site import run as run_with
from tests.processes import cpu_answer
from tests.served import environment, sendnn

UNSAID = "model.dtype=float32 or bfloat16"


@pytest.fixture(autouse=True)
def ask(monkeypatch):
    """Whatever the suite runs under."""
    monkeypatch.setenv(cpu_answer.VARIABLE, cpu_answer.ASK)


def test_in_this_process(tiny):
    with pytest.raises(cpu_answer.DtypeUnsaidError, match=UNSAID):
        resolved_run(["model=local", f"model.path={tiny}", "backend=eager"])
    with pytest.raises(cpu_answer.DtypeUnsaidError, match=cpu_answer.VARIABLE):
        cpu.computes_bfloat16()


def test_in_the_command_line_called_in_this_process(tiny, in_process):
    ended = in_process("explain", "model.dtype", "model=local", f"model.path={tiny}")
    assert ended.returncode == 1 and UNSAID in ended.stderr and ended.stdout == ""


@pytest.mark.parametrize("more", [{}, {"PYTHONPATH": "/nowhere"}, {"PYTHONPATH": ""}])
def test_in_a_process(tiny, more):
    ended = sendnn("model=local", f"model.path={tiny}", "backend=eager", "pipeline=precompile", **more)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and line.startswith("error: ") and UNSAID in line and "load" not in ended.stdout


def test_in_a_job_of_a_sweep(tiny, tmp_path, in_process):
    words = ("-m", "model=local", f"model.path={tiny}", "backend=eager", "pipeline=precompile")
    ended = in_process(*words, "process.num_cpus=1,2", f"hydra.sweep.dir={tmp_path}")
    assert ended.returncode == 1 and "2 of 2 jobs failed" in ended.stderr
    assert all(UNSAID in (tmp_path / str(job) / "log.txt").read_text() for job in (0, 1))


def test_in_an_environment_of_its_own(tmp_path, minilm):
    ended = run_with(python_with(tmp_path / "env", "cpu_models"), "explain", "model.dtype", "model=minilm")
    assert ended.returncode == 1 and UNSAID in ended.stderr


def test_an_answer_can_be_chosen(monkeypatch):
    for answer, computes in ((cpu_answer.BFLOAT16, True), (cpu_answer.FLOAT32, False)):
        monkeypatch.setenv(cpu_answer.VARIABLE, answer)
        assert cpu.computes_bfloat16() is computes
    monkeypatch.setenv(cpu_answer.VARIABLE, cpu_answer.MACHINE)
    assert cpu.computes_bfloat16() == cpu.computes_bfloat16(Path("/proc/cpuinfo"))


def test_without_the_tests_the_machine_answers():
    kept = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", cpu_answer.VARIABLE)}
    code = "from sendnn_pipeline.machine import cpu; print(cpu.computes_bfloat16.__module__, cpu.computes_bfloat16())"
    plain = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    chosen = environment(**{cpu_answer.VARIABLE: cpu_answer.MACHINE})
    patched = subprocess.run([sys.executable, "-c", code], env=chosen, capture_output=True, text=True, check=True)
    assert plain.stdout == patched.stdout
