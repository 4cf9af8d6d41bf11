"""A process that imports torch before its run is known: when it becomes the first rank, and when it is given up."""

import asyncio
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from sendnn_pipeline.app.launch import launching
from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.distributed.standby import start_standby
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.messages import Drain
from tests.distributed.test_ranks import RUN
from tests.served import environment

THREADS = {"OMP_NUM_THREADS": "2"}


async def start_of_a_rank(standby, variables):
    """Return what a rank says of its start, and its process."""
    ranks = start_ranks("tests.distributed.jobs:tell_of_the_start", RUN, variables, {}, standby)
    try:
        async for message in ranks.messages():
            await ranks.send(Drain())
            said = message.detail
        return said, ranks.ranks[0].process
    finally:
        ranks.kill()


def tell(standby, variables):
    return asyncio.run(start_of_a_rank(standby, variables))


@contextmanager
def standing_by():
    """Not a fixture: pytest has a variable for the phase of a test, and variables that differ are what matters here."""
    standby = start_standby(process_environment(), THREADS)
    try:
        yield standby
    finally:
        standby.close()
    assert not standby.process.is_alive()


def test_a_process_that_suits_the_run_becomes_its_first_rank_with_torch_there():
    with standing_by() as standby:
        said, process = tell(standby, {**THREADS, "TORCHINDUCTOR_CACHE_DIR": "/read/later"})
        assert process is standby.process
        assert said == f"{process.pid} torch=True own"
        assert process.exitcode == 0
        # One process is one engine: whoever starts another, as after a death, gets a new one.
        said, second = tell(standby, THREADS)
        assert second.pid != process.pid and "torch=False" in said


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "1"}, {**THREADS, "FLEX_DEVICE": "COMPILE"}])
def test_a_variable_that_would_come_too_late_starts_a_process_of_its_own(variables):
    with standing_by() as standby:
        said, process = tell(standby, variables)
        assert process is not standby.process and "torch=False" in said
        # It would stay for as long as the run.
        assert not standby.process.is_alive()


def test_one_that_has_died_is_no_loss():
    with standing_by() as standby:
        standby.process.kill()
        standby.process.join()
        assert tell(standby, THREADS)[1] is not standby.process


def test_one_that_waited_for_long_is_no_longer_taken(monkeypatch):
    monkeypatch.setattr("sendnn_pipeline.distributed.standby.PATIENCE_SECONDS", 0.0)
    with standing_by() as standby:
        assert tell(standby, THREADS)[1] is not standby.process


def test_libraries_that_torch_would_load_by_itself_find_their_variables(tmp_path, monkeypatch):
    """Of a device: torch imports it when it is imported, which must not be before its variables are there."""
    about = tmp_path / "device-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: device\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[torch.backends]\ndevice = device:autoload\n")
    monkeypatch.syspath_prepend(tmp_path)
    with standing_by() as standby:
        said, process = tell(standby, THREADS)
    assert process is standby.process and "torch=False" in said


@pytest.mark.parametrize(
    "words",
    [["explain"], ["--help"], ["-m", "serve=bench"], ["engine=echo"], ["doctor", "serve=http"]],
)
def test_nothing_is_begun_for_what_runs_nothing_or_perhaps_without_torch(words):
    with launching(words, {}) as launch:
        assert launch.standby is None


def test_a_run_that_is_refused_leaves_no_process(tmp_path):
    began = subprocess.run(
        [sys.executable, "-m", "sendnn_pipeline", "model=local", f"model.path={tmp_path}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert began.returncode == 1 and "config.json" in began.stderr and "Traceback" not in began.stderr
    assert not [found for found in psutil.process_iter(["environ"]) if is_of(found, tmp_path)]


def is_of(process, folder):
    return str(folder) in " ".join((process.info["environ"] or {}).values())


def test_it_ends_with_a_parent_that_is_killed():
    code = (
        "import os, time\nfrom sendnn_pipeline.distributed.standby import start_standby\n"
        "if __name__ == '__main__':\n"
        "    print(start_standby(dict(os.environ), {}).process.pid, flush=True)\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment())
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    assert child.wait(timeout=30) == 0 or not child.is_running()
