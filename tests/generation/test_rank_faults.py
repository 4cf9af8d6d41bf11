"""A decoder among two ranks, of which one is stopped or killed in prefill and in decode.

Over real processes and gloo: nothing hangs on a sum, and the engine that is started again answers as the one before.
"""

from concurrent.futures import ThreadPoolExecutor

from tests.engines.test_echo_ranks import shared_memory, wait_for
from tests.engines.test_echo_restarts import engine_of, metric
from tests.served import EAGER_FLOAT32, Served

RESTARTS = ("parallel.on_worker_death=restart", "parallel.max_restarts=1")
WORDS = ("parallel.tensor_parallel=2", *RESTARTS, "serve.stall_seconds=0.5")


def follower(served):
    """Return the rank that is not the first: of two, the second to be started."""
    return max(engine_of(served), key=lambda one: one.pid)


def complete(served, prompt="if a", **more):
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, **more}
    return served.session.post(f"{served.url}/v1/completions", json=body)


def text(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def wait_ready(served):
    wait_for(lambda: served.get("/ready").status_code == 200, 60)


def test_faults_of_a_rank_in_prefill_and_in_decode(llama):
    before = shared_memory()
    with Served(*EAGER_FLOAT32, f"model.path={llama}", *WORDS) as served, ThreadPoolExecutor(4) as pool:
        wanted, rank = text(complete(served)), follower(served)

        # Stopped in prefill: it waits, is told, and goes on.
        rank.suspend()
        asked = pool.submit(complete, served)
        wait_for(lambda: served.get("/ready").status_code == 503)
        reason = served.get("/ready").json()["reason"]
        assert "requests wait and the engine has been silent for" in reason and "the last step ended" in reason
        assert served.get("/live").status_code == 200 and not asked.done()
        rank.resume()
        assert text(asked.result()) == wanted
        wait_ready(served)

        # Killed in decode: what came stays, and the stream ends with the error.
        rank, lines = follower(served), []
        body = {"prompt": "if a", "max_tokens": 240, "temperature": 0, "stream": True, "ignore_eos": True}
        with served.session.stream("POST", f"{served.url}/v1/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line and not lines:
                    rank.kill()
                lines.append(line)
        events = [line.removeprefix("data: ") for line in lines if line]
        assert len(events) > 2 and events[-1] == "[DONE]" and "killed by SIGKILL" in events[-2]
        wait_ready(served)
        assert text(complete(served)) == wanted

        # Killed in prefill, with the first rank in a sum that will never come: a death more than may be.
        ranks = engine_of(served)
        follower(served).suspend()
        asked = pool.submit(complete, served)
        wait_for(lambda: metric(served, "vllm:num_requests_running{") == 1)
        follower(served).kill()
        assert asked.result().status_code == 503 and "the process of rank 1 was killed" in asked.result().text
        assert served.exit_code() == 1
    wait_for(lambda: not any(one.is_running() for one in ranks))
    assert shared_memory() <= before
