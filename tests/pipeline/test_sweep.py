"""Sweeps: every job a row, whatever happens to it, and the table in the end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sendnn_pipeline.pipeline.job import run_job
from tests.served import ROOT, environment, sendnn

SMALL = ("workload.num_requests=6", "workload.texts_per_request=2", "serve.rounds=2", "backend=eager", "model=local")


def test_a_sweep_ends_with_a_table_a_plot_and_the_place_of_both(tiny, tmp_path):
    words = ("-m", "serve=bench", *SMALL, f"model.path={tiny}", "warmup.shapes=[16x1,64x4],[8..64x1..8]")
    ended = sendnn(*words, f"hydra.sweep.dir={tmp_path}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["label"] for row in rows] == ["warmup.shapes=[16x1,64x4]", "warmup.shapes=[8..64x1..8]"]
    assert all(row["texts_per_second"] > 0 and row["status"] == "done" for row in rows)
    assert any(row["pareto"] for row in rows) and rows[1]["padding"] < rows[0]["padding"]
    with (tmp_path / "sweep.csv").open() as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == [row["label"] for row in rows]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert ended.stdout.splitlines()[-1] == f"sweep.csv, sweep.json and sweep.png are in {tmp_path}"


def test_a_failing_and_a_hanging_job_are_rows_and_the_others_are_run(tiny, tmp_path):
    words = [word for word in SMALL if not word.startswith("backend")]
    words = ["-m", "serve=bench", *words, f"model.path={tiny}", "backend=sendnn,eager", "warmup.shapes=[64x1]"]
    ended = sendnn(*words, f"hydra.sweep.dir={tmp_path}/a")
    assert ended.returncode == 1 and "1 of 2 jobs failed" in ended.stderr
    failed, done = json.loads((tmp_path / "a" / "sweep.json").read_text())
    assert "torch_sendnn" in failed["status"] and failed["texts_per_second"] is None
    assert done["status"] == "done" and done["texts_per_second"] > 0
    late = ("-m", "serve=bench", *SMALL, f"model.path={tiny}", "workload.num_requests=6,1000000")
    ended = sendnn(*late, "process.job_seconds=20", f"hydra.sweep.dir={tmp_path}/b")
    assert ended.returncode == 1
    done, hanging = json.loads((tmp_path / "b" / "sweep.json").read_text())
    assert done["status"] == "done" and hanging["status"] == "killed after 20 s (process.job_seconds)"


def test_a_killed_job_is_a_row(tiny, tmp_path):
    import threading

    words = ["serve=bench", *SMALL, f"model.path={tiny}", f"serve.output={tmp_path}", "workload.num_requests=1000000"]

    def kill():
        while True:
            for child in psutil.Process().children():
                if "serve=bench" in child.cmdline():
                    time.sleep(1)
                    child.kill()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    row = run_job(0, words, [], tmp_path, 100)
    killer.join()
    assert row.reason == "killed by SIGKILL" and row.exit_code == -9


def test_interrupted_it_prints_what_is_done_and_leaves_no_process(tiny, tmp_path):
    words = ["-m", "serve=bench", *SMALL, f"model.path={tiny}", "workload.num_requests=6,1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sendnn_pipeline", *words, f"hydra.sweep.dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(),
        # Where the tests run in the background of a shell, Ctrl-C is ignored from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    for line in process.stdout:
        if line.startswith("job 1:"):
            break
    time.sleep(3)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "sweep.csv" in said and "workload.num_requests=6" in said
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive and gone


def test_timed_jobs_are_not_run_side_by_side_unless_told(tiny):
    words = ("-m", "serve=bench", *SMALL, f"model.path={tiny}", "hydra/launcher=joblib", "workload.seed=1,2")
    ended = sendnn(*words)
    assert ended.returncode == 2 and "serve.parallel_jobs=true" in ended.stderr


@pytest.mark.parametrize("target", ["http"])
def test_what_never_ends_is_refused(tiny, target):
    ended = sendnn("-m", f"serve={target}", "model=local", f"model.path={tiny}", "backend=eager", "serve.port=1,2")
    assert ended.returncode == 2 and "never ends" in ended.stderr


def test_joblib_runs_jobs_and_optuna_chooses_them(tiny, tmp_path):
    words = ("-m", "serve=bench", *SMALL, f"model.path={tiny}", "serve.parallel_jobs=true")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "workload.seed=1,2")
    ended = sendnn(*words, *joblib, f"hydra.sweep.dir={tmp_path}/a")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "a" / "sweep.json").read_text())
    assert [row["label"] for row in rows] == ["workload.seed=1", "workload.seed=2"]
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=maximize")
    interval = "scheduler.max_num_batched_tokens=int(interval(64,512))"
    ended = sendnn(*words, *optuna, interval, f"hydra.sweep.dir={tmp_path}/b")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "b" / "sweep.json").read_text())
    assert len(rows) == 2 and all(row["texts_per_second"] > 0 for row in rows)
    best = (tmp_path / "b" / "optimization_results.yaml").read_text()
    assert f"best_value: {max(row['texts_per_second'] for row in rows):.4f}"[:-3] in best
