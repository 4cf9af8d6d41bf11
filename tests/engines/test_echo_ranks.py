"""What happens to ranks while they serve: each fault has an end, in bounded time, and leaves nothing."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.leaks import Leaks, shared_memory, wait_for, wait_silent
from tests.served import ECHO, Served, with_echo

WORDS = (*ECHO, "parallel.tensor_parallel=2", "process.num_cpus=2")


@pytest.fixture
def pair(tiny):
    """A server of two ranks; nothing of it is there afterwards."""
    before = shared_memory()
    with Served(*WORDS, f"model.path={tiny}", "engine.step_ms=20", "serve.stall_seconds=0.3", **with_echo()) as served:
        children = psutil.Process(served.process.pid).children()
        first = served.get("/info").json()["engine"]["pid"]
        served.ranks = sorted(
            (one for one in children if "spawn_main" in " ".join(one.cmdline())), key=lambda one: one.pid != first
        )
        assert len(served.ranks) == 2
        leaks = Leaks(served, before)
        yield served
        if served.process.poll() is None:
            leaks.check_the_same()
    leaks.check_nothing()


def ask(served, **options):
    return served.session.post(f"{served.url}/v1/echo", json={"input": "hello"}, **options)


def test_ranks_answer_share_the_cpus_and_drain(pair):
    assert ask(pair).json()["data"] == ["hello"]
    assert pair.get("/info").json()["engine"]["threads"] == "1"
    assert "rank 1: warmup done" in pair.output
    pair.terminate()
    assert pair.exit_code() == 0 and "drained" in pair.output


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_is_named(pair, rank):
    assert ask(pair).status_code == 200
    pair.ranks[rank].kill()
    assert pair.exit_code() == 1
    assert f"the process of rank {rank} was killed by SIGKILL" in pair.output


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_when_idle_is_named(pair, rank):
    assert ask(pair).status_code == 200
    # Idle for longer than the engine may be silent, it is well.
    time.sleep(1.5)
    wait_for(lambda: pair.get("/ready").status_code == 200)
    pair.ranks[rank].suspend()
    silent = "the engine" if rank == 0 else "rank 1"
    reason = wait_silent(pair, silent)
    assert reason.startswith(silent) and "the last step ended" in reason
    assert pair.get("/live").status_code == 200
    pair.ranks[rank].resume()
    wait_for(lambda: pair.get("/ready").status_code == 200)
    assert ask(pair).json()["data"] == ["hello"]


def test_a_rank_that_is_stopped_holds_the_step_up_and_goes_on(pair):
    pair.ranks[1].suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, pair)
        wait_silent(pair, "the engine")
        assert pair.get("/live").status_code == 200 and not asked.done()
        pair.ranks[1].resume()
        assert asked.result().json()["data"] == ["hello"]
    wait_for(lambda: pair.get("/ready").status_code == 200)


def test_ranks_end_with_a_driver_that_is_killed(pair):
    pair.ranks[1].suspend()
    pair.process.send_signal(signal.SIGKILL)
    wait_for(lambda: pair.ranks[0].status() == psutil.STATUS_ZOMBIE if pair.ranks[0].is_running() else True)
    pair.ranks[1].resume()
