"""A decoder among two ranks, of which one is stopped or killed: idle, in prefill, in decode, in warmup.

Over real processes and gloo: nothing hangs on a sum, what is stopped goes on, what is killed is named, and after each
fault nothing is left that was not there before.
"""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.test_echo_restarts import engine_of, metric
from tests.leaks import Leaks, shared_memory, wait_for, wait_silent
from tests.served import EAGER_FLOAT32, Served

WORDS = (*EAGER_FLOAT32, "parallel.tensor_parallel=2", "serve.stall_seconds=0.5")
LONG = {"prompt": "if a", "max_tokens": 240, "temperature": 0, "stream": True, "ignore_eos": True}
FIRST, FOLLOWER = 0, 1


@pytest.fixture(scope="module")
def words(llama):
    return (*WORDS, f"model.path={llama}")


@pytest.fixture(scope="module")
def pair(words):
    """A server that outlives what is stopped."""
    before = shared_memory()
    with Served(*words) as served:
        assert complete(served).status_code == 200
        served.leaks = Leaks(served, before)
        yield served


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def rank_of(served, rank):
    """Return a rank's process: they are started in their order."""
    return sorted(engine_of(served), key=lambda one: one.pid)[rank]


def complete(served, prompt="if a", **more):
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, **more}
    return served.session.post(f"{served.url}/v1/completions", json=body)


def text(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def stream(served, at_first=lambda: None):
    """Return the events of a long answer; ``at_first`` is called with the first of them."""
    events = []
    with served.session.stream("POST", f"{served.url}/v1/completions", json=LONG) as answer:
        for line in answer.iter_lines():
            if line and not events:
                at_first()
            events += [line.removeprefix("data: ")] if line else []
    return events


def texts_of(events):
    """Return all that a stream said, but for its ids and times."""
    return [event.partition('"choices"')[2] for event in events]


def check_ready(served):
    wait_for(lambda: served.get("/ready").status_code == 200, 60)


@pytest.mark.parametrize("rank", [FIRST, FOLLOWER])
@pytest.mark.parametrize("phase", ["idle", "prefill", "decode"])
def test_a_rank_that_is_stopped_is_waited_for(phase, rank, pair, pool):
    wanted, process = text(complete(pair)), rank_of(pair, rank)
    undisturbed = texts_of(stream(pair)) if phase == "decode" else []
    if phase == "decode":
        asked = pool.submit(stream, pair, process.suspend)
    else:
        process.suspend()
        asked = pool.submit(complete, pair) if phase == "prefill" else None
    silent = "rank 1" if phase == "idle" and rank == FOLLOWER else "the engine"
    assert "the last step ended" in wait_silent(pair, silent)
    # The probe of life does not mind.
    assert pair.get("/live").status_code == 200 and (asked is None or not asked.done())
    process.resume()
    if phase == "decode":
        assert texts_of(asked.result(60)) == undisturbed
    elif asked is not None:
        assert text(asked.result(60)) == wanted
    check_ready(pair)
    assert text(complete(pair)) == wanted
    pair.leaks.check_the_same()


@pytest.mark.parametrize(("phase", "rank"), [("prefill", FOLLOWER), ("decode", FIRST)])
def test_a_rank_that_is_killed_is_named_and_all_end(phase, rank, words, pool):
    before = shared_memory()
    with Served(*words) as served:
        assert complete(served).status_code == 200
        leaks, process = Leaks(served, before), rank_of(served, rank)
        says = f"the process of rank {rank} was killed by SIGKILL"
        if phase == "prefill":
            # The first rank is in a sum that will never come.
            process.suspend()
            asked = pool.submit(complete, served)
            wait_for(lambda: metric(served, "vllm:num_requests_running{") == 1)
            process.kill()
            assert asked.result(30).status_code == 503 and says in asked.result().text
        else:
            # What came stays, and the stream ends with the error.
            events = stream(served, process.kill)
            assert len(events) > 2 and events[-1] == "[DONE]" and says in events[-2]
        assert served.exit_code(20) == 1 and says in served.output
    leaks.check_nothing()


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_a_rank_that_is_stopped_or_killed_in_warmup(fault, words):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    before = shared_memory()
    with Served(*words, f"serve.port={port}", "parallel.worker_log_dir=", wait=False) as served:
        served.url = f"http://127.0.0.1:{port}"
        served.wait_line("load done")
        process = rank_of(served, FOLLOWER)
        process.suspend()
        leaks = Leaks(served, before)
        # The first rank comes to a sum of its first step, and no further.
        served.wait_line("warmup …")
        assert [served.get(path).status_code for path in ("/live", "/ready", "/startup")] == [200, 503, 503]
        if fault == "killed":
            process.kill()
            assert served.exit_code(20) == 1
            assert "the process of rank 1 was killed by SIGKILL" in served.output
        else:
            process.resume()
            served.wait_ready()
            assert complete(served).status_code == 200
            served.terminate()
            assert served.exit_code() == 0
    leaks.check_nothing()


def test_the_engine_that_is_started_again_answers_as_the_one_before(words):
    before = shared_memory()
    with Served(*words, "parallel.on_worker_death=restart", "parallel.max_restarts=1") as served:
        wanted = text(complete(served))
        leaks = Leaks(served, before)
        events = stream(served, rank_of(served, FOLLOWER).kill)
        assert "killed by SIGKILL" in events[-2]
        check_ready(served)
        assert text(complete(served)) == wanted
        leaks.check_the_same()
        after = Leaks(served, before)
        # One death more than may be, while nothing is asked.
        rank_of(served, FIRST).kill()
        assert served.exit_code() == 1 and "the process of rank 0 was killed by SIGKILL" in served.output
    leaks.check_nothing()
    after.check_nothing()
