"""An engine that is started again: who waits is answered, nothing of the old processes stays, and there is an end."""

import json
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.leaks import shared_memory, wait_for
from tests.served import ECHO, Served, with_echo

RESTART = (*ECHO, "parallel.on_worker_death=restart", "process.num_cpus=2")


def engine_of(served):
    """Return the processes of the engine."""
    children = psutil.Process(served.process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def sockets(served):
    return sorted(one.laddr for one in psutil.Process(served.process.pid).net_connections("inet") if not one.raddr)


def ask(served, **body):
    return served.session.post(f"{served.url}/v1/echo", json={"input": ["hello world and more"] * 60, **body})


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_death_fails_who_waits_and_the_next_engine_answers_until_too_many_died(ranks, tiny, tmp_path):
    words = (f"model.path={tiny}", f"parallel.tensor_parallel={ranks}", "parallel.max_restarts=1", "engine.step_ms=100")
    before = shared_memory()
    with Served(*RESTART, *words, **with_echo(TMPDIR=str(tmp_path))) as served:
        assert ask(served, input="hello").json()["data"] == ["hello"]
        first, parent = engine_of(served), psutil.Process(served.process.pid)
        assert len(first) == ranks
        files, listening = parent.num_fds(), sockets(served)
        with ThreadPoolExecutor(2) as pool:
            stream = pool.submit(ask, served, stream=True)
            wait_for(lambda: metric(served, "sendnn_pipeline:bucket_requests_total") >= 9)
            whole = pool.submit(ask, served)
            wait_for(lambda: metric(served, "vllm:num_requests_waiting{") == 1)
            first[-1].kill()
            assert whole.result().status_code == 503 and whole.result().headers["retry-after"]
            assert "was killed by SIGKILL" in whole.result().json()["error"]["message"]
            events = [line for line in stream.result().text.splitlines() if line.startswith("data: ")]
            assert stream.result().status_code == 200 and len(events) > 2 and events.pop() == "data: [DONE]"
            assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "server_unavailable"
        refused = served.get("/ready")
        assert refused.status_code == 503 and "the engine is started again (1 of 1) after" in refused.json()["reason"]
        assert ask(served).status_code == 503 and served.get("/live").status_code == 200
        served.wait_line("the engine is started again in 1 s, 1 of 1")
        wait_for(lambda: served.get("/ready").status_code == 200)
        assert ask(served, input="hello").json()["data"] == ["hello"]
        second = engine_of(served)
        assert len(second) == ranks and not {one.pid for one in first} & {one.pid for one in second}
        # A file or two may be of a connection that is about to close.
        assert parent.num_fds() <= files + 2 and sockets(served) == listening
        assert len(list(tmp_path.glob("sendnn-*"))) == ranks and shared_memory() <= before
        second[0].kill()
        assert served.exit_code() == 1 and "was killed by SIGKILL" in served.lines[-1]
    assert list(tmp_path.iterdir()) == [] and shared_memory() <= before


def metric(served, name):
    lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_drain_between_two_starts_ends_the_server(tiny):
    with Served(*RESTART, f"model.path={tiny}", **with_echo()) as served:
        engine_of(served)[0].kill()
        served.wait_line("the engine is started again in 1 s")
        served.terminate()
        assert served.exit_code() == 0


def test_a_first_start_that_fails_is_not_repeated(tiny):
    with Served(*RESTART, f"model.path={tiny}", "engine.fail=warmup", wait=False, **with_echo()) as served:
        assert served.exit_code() == 1 and "the warmup fails, as it was told to" in served.output
        assert "started again" not in served.output
