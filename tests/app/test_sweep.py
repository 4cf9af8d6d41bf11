"""Sweeps: every job a row, whatever happens to it, and the table in the end. The echo engine makes jobs quick."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import psutil
import pytest

from sendnn_pipeline.app.job import Row, forget_rows, read_rows, run_job
from tests.served import EAGER_FLOAT32, ECHO, ECHO_FOLDER, FLOAT32, ROOT, environment, sendnn, with_echo

BENCH = ("serve=bench", "workload.num_requests=6", "workload.texts_per_request=2", "serve.rounds=2", *ECHO)
ENDLESS = "workload.num_requests=1000000"


@pytest.fixture
def swept(tiny, tmp_path, in_process, monkeypatch):
    """Sweep over the tiny model, into the folder of the test, from this process; jobs have their own."""
    monkeypatch.syspath_prepend(ECHO_FOLDER)

    def run(*words, target=BENCH):
        return in_process("-m", *target, f"model.path={tiny}", *words, f"hydra.sweep.dir={tmp_path}", **with_echo())

    return run


def rows_of(folder):
    return json.loads((folder / "sweep.json").read_text())


def test_a_sweep_ends_with_a_table_a_plot_and_where_both_are(swept, tmp_path):
    ended = swept("engine.step_ms=0,20")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = rows_of(tmp_path)
    assert [row["label"] for row in rows] == ["engine.step_ms=0", "engine.step_ms=20"]
    assert all(row["texts_per_second"] > 0 and row["status"] == "done" for row in rows)
    for figure in ("texts_per_second", "tokens_per_second"):
        assert rows[0][figure] > rows[1][figure]
    assert rows[0]["pareto"] and "engine.step_ms=20" in ended.stdout
    with (tmp_path / "sweep.csv").open() as stream:
        table = list(csv.DictReader(stream))
    # A column for what was swept, and what every job ran.
    assert [row["engine.step_ms"] for row in table] == ["0", "20"]
    assert [(row["backend"], row["dtype"], row["status"]) for row in table] == [("eager", "float32", "done")] * 2
    units = {name.rpartition("_")[2] for name in table[0] if name not in rows[0]["label"]}
    assert units >= {"ms", "second", "share", "seconds"} and not {"min", "max", "seconds", "padding"} & table[0].keys()
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    lines = ended.stdout.splitlines()
    first = next(line for line in lines if line.startswith("job 0 (1 of 2): "))
    # As the shell would read it, the words are the job's own.
    command = shlex.split(first.partition(": ")[2])
    assert command[:3] == ["python", "-m", "sendnn_pipeline"] and command[3:] == read_rows(tmp_path)[0].words[:-1]
    assert any(re.fullmatch(r"job 0: done after \S+ s; 1 to go, about \d+ (s|min)", line) for line in lines)
    assert any(re.fullmatch(r"job 1: done after \S+ s", line) for line in lines)
    assert ended.stdout.splitlines()[-1] == f"sweep.csv, sweep.json and sweep.png are in {tmp_path}"


def test_a_failing_job_is_a_row_and_the_others_are_run(swept, tmp_path):
    ended = swept("backend=sendnn,eager", target=[word for word in BENCH if not word.startswith("backend")])
    assert ended.returncode == 1 and "1 of 2 jobs failed" in ended.stderr
    failed, done = rows_of(tmp_path)
    assert "float32 is not computed by sendnn" in failed["status"] and failed["texts_per_second"] is None
    assert (failed["backend"], done["backend"]) == ("sendnn", "eager")
    assert done["status"] == "done" and done["texts_per_second"] > 0


def test_a_job_that_takes_too_long_is_killed_and_is_a_row(swept, tmp_path):
    # By the old name of the key, which is settled before the jobs begin. Jobs that need no limit are in other tests.
    ended = swept("engine.hang=load", "workload.seed=1,2", "process.job_seconds=2")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert [row["status"] for row in rows_of(tmp_path)] == ["killed after 2 s (sweep.job_timeout_seconds)"] * 2


def test_a_limit_that_is_none_ends_the_sweep_before_its_jobs(tiny, in_process):
    ended = in_process("-m", *BENCH[:-1], f"model.path={tiny}", "sweep.job_timeout_seconds=0", "workload.seed=1,2")
    assert ended.returncode == 2 and "sweep.job_timeout_seconds=0" in ended.stderr and "job 0" not in ended.stdout


@contextmanager
def when_written(file, text, action):
    """Call ``action`` in another thread as soon as the file has the text."""

    def watch():
        while not over.wait(0.02):
            if file.is_file() and text in file.read_text():
                action()
                return

    over = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_killed_job_is_a_row(tiny, tmp_path, monkeypatch):
    for name, text in environment(**with_echo()).items():
        monkeypatch.setenv(name, text)
    words = [*BENCH, f"model.path={tiny}", f"serve.output={tmp_path}", ENDLESS]

    def kill():
        (job,) = (child for child in psutil.Process().children() if "serve=bench" in child.cmdline())
        job.kill()

    with when_written(tmp_path / "log.txt", "warmup done", kill):
        row = run_job(0, words, [], tmp_path, 100)
    assert row.reason == "killed by SIGKILL" and row.exit_code == -9
    assert (tmp_path / "row.json").is_file()


def test_interrupted_it_prints_what_is_done_and_leaves_no_process(tiny, tmp_path):
    words = ["-m", *BENCH, f"model.path={tiny}", "workload.num_requests=6,1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sendnn_pipeline", *words, f"hydra.sweep.dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(**with_echo()),
        # Where the tests run in the background of a shell, Ctrl-C is ignored from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    children = []

    def interrupt():
        children.extend(psutil.Process(process.pid).children(recursive=True))
        os.kill(process.pid, signal.SIGINT)

    with when_written(tmp_path / "1" / "log.txt", "warmup done", interrupt):
        printed, _ = process.communicate(timeout=60)
    # The job and its engine.
    assert len(children) >= 2
    assert process.returncode == 130 and "sweep.csv" in printed and "workload.num_requests=6" in printed
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive and gone


def test_timed_jobs_are_not_run_side_by_side_unless_told(tiny, in_process):
    words = ("-m", *BENCH[:-1], f"model.path={tiny}", "hydra/launcher=joblib", "workload.seed=1,2")
    ended = in_process(*words)
    assert ended.returncode == 2 and "serve.parallel_jobs=true" in ended.stderr


def test_what_never_ends_is_refused(tiny, in_process):
    ended = in_process("-m", "serve=http", *EAGER_FLOAT32, f"model.path={tiny}", "serve.port=1,2")
    assert ended.returncode == 2 and "never ends" in ended.stderr


def test_precompiling_is_swept_without_a_bench(swept, tmp_path):
    ended = swept("process.num_cpus=1,2", "pipeline=precompile", target=ECHO)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [row["status"] for row in rows_of(tmp_path)] == ["done", "done"]
    for job, threads in enumerate((1, 2)):
        assert f"threads  {threads}" in (tmp_path / str(job) / "log.txt").read_text()


def test_joblib_runs_jobs_and_optuna_chooses_them(tiny, tmp_path):
    def swept(*words, folder):
        into = f"hydra.sweep.dir={tmp_path / folder}"
        return sendnn("-m", *BENCH, f"model.path={tiny}", *words, into, **with_echo())

    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "workload.seed=1,2")
    ended = swept("serve.parallel_jobs=true", *joblib, folder="a")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [row["label"] for row in rows_of(tmp_path / "a")] == ["workload.seed=1", "workload.seed=2"]
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=maximize")
    ended = swept("serve.parallel_jobs=true", *optuna, "engine.step_ms=interval(0,5)", folder="b")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = rows_of(tmp_path / "b")
    assert len(rows) == 2 and all(row["texts_per_second"] > 0 for row in rows)
    best = (tmp_path / "b" / "optimization_results.yaml").read_text()
    assert f"best_value: {max(row['texts_per_second'] for row in rows):.4f}"[:-3] in best


def test_rows_of_an_earlier_sweep_are_forgotten(tmp_path):
    import msgspec

    (tmp_path / "0").mkdir()
    row = Row(0, ["a=1"], 1.5, 0, result={"figures": {}})
    (tmp_path / "0" / "row.json").write_bytes(msgspec.json.encode(row))
    assert read_rows(tmp_path) == [row]
    forget_rows(tmp_path)
    assert read_rows(tmp_path) == []


def test_a_variable_for_one_backend_is_ignored_where_another_is_swept(tiny, tmp_path, in_process, monkeypatch):
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    words = ("-m", *FLOAT32, f"model.path={tiny}", "engine=echo", "pipeline.stages=[load]", "backend=inductor,eager")
    ended = in_process(*words, f"hydra.sweep.dir={tmp_path}", **with_echo(SENDNN_PIPELINE__backend__freezing="true"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    logs = [(tmp_path / str(job) / "log.txt").read_text() for job in (0, 1)]
    note = "SENDNN_PIPELINE__backend__freezing is ignored: it sets backend.freezing, and only backend=inductor has it"
    assert note not in logs[0] and note in logs[1]
