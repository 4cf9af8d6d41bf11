"""Blocks come free when a sequence, or a whole client, has what it came for."""

import time

import httpx
import msgspec
import pytest

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.messages import GenerationOutput, GenerationRequest, Sampling
from sendnn_pipeline.generation.opening import open_core
from sendnn_pipeline.messages import Cancel, Part, Request
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32


class Core:
    """The real one, over eager Programs."""

    def __init__(self, folder) -> None:
        resolved = resolved_run([*EAGER_FLOAT32, f"model.path={folder}", "scheduler.max_num_seqs=8"])
        self.core, self.sent = open_core(resolved.run, World()), []
        programs = resolved.run.plan.programs
        self.core.install({one: resolved.backend.compile(self.core.graph(one)) for one in programs})
        self.core.start({}, self.sent.append)

    def put(self, request_id: int, n: int, max_tokens: int = 50) -> None:
        request = GenerationRequest([[5, 6, 7]], [max_tokens], Sampling(seed=1), n)
        self.core.take(Request(request_id, float("inf"), msgspec.Raw(msgspec.msgpack.encode(request))))

    def outputs(self) -> list[GenerationOutput]:
        parts = [part for part in self.sent if isinstance(part, Part)]
        return [msgspec.msgpack.decode(part.payload, type=GenerationOutput) for part in parts]

    @property
    def pool(self):
        return self.core.scheduler.state.pool


@pytest.fixture
def core(llama):
    made = Core(llama)
    yield made
    made.core.close()


def test_one_sequence_is_forgotten_and_the_others_go_on(core):
    core.put(1, n=3, max_tokens=6)
    for _ in range(4):
        core.core.step()
    used = core.pool.num_used
    core.core.take(Cancel(1, 1))
    assert core.pool.num_used < used
    core.sent.clear()
    while core.core.step():
        pass
    assert {output.sequence for output in core.outputs()} == {0, 2}
    last = [part for part in core.sent if isinstance(part, Part)][-1]
    assert last.last and core.pool.num_used == 0 and core.pool.num_reserved == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_client_that_leaves_leaves_no_block_behind(core, steps):
    core.put(1, n=4)
    core.put(2, n=1, max_tokens=3)
    for _ in range(steps):
        core.core.step()
    core.core.take(Cancel(1))
    while core.core.step():
        pass
    assert core.core.idle and core.pool.num_used == 0 and core.pool.num_reserved == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_forgotten(served_llama, stream):
    body = {"prompt": "if", "n": 8, "ignore_eos": True, "stream": stream}
    url = f"{served_llama.url}/v1/completions"
    if stream:
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            next(answer.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=httpx.Timeout(60, read=0.3))
    ends = time.monotonic() + 60
    while left_behind(served_llama):
        assert time.monotonic() < ends, "its request or its blocks are still there"
    # All rows are free again: eight more are answered.
    assert served_llama.post("/v1/completions", json={**body, "stream": False, "max_tokens": 2}).status_code == 200


def left_behind(served) -> float:
    lines = served.get("/metrics").text.splitlines()
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    return sum(float(line.split()[-1]) for line in lines if line.startswith(names))


def test_what_the_model_s_files_say_holds_where_a_request_is_silent(served_llama):
    assert served_llama.get("/info").json()["model"]["generation_defaults"] == {"temperature": 0.0}
    body = {"prompt": "if", "max_tokens": 12, "ignore_eos": True}
    texts = [
        served_llama.post("/v1/completions", json=body | more).json()["choices"][0]["text"]
        for more in ({}, {}, {"temperature": 0})
    ]
    assert len(set(texts)) == 1
