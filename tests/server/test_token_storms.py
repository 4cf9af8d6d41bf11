"""Huge texts and lists on every route that takes them: refused or cut, short ones answered beside them, memory back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.served import EAGER_FLOAT32, Served

HUGE = "hello world of the a, " * 300_000
HALF = HUGE[: len(HUGE) // 2]
ROUTES = {
    "/v1/embeddings": {"input": HUGE},
    "/classify": {"input": [HUGE, "hello"]},
    "/score": {"text_1": HUGE, "text_2": "hello"},
    "/rerank": {"query": "hello", "documents": ["hello", HUGE]},
    "/similarity": {
        "inputs": {"source_sentence": "hello", "sentences": [HUGE]},
        "parameters": {"truncate": False},
    },
    "/embed": {"inputs": [HUGE], "truncate": False},
    "/tokenize": {"prompt": HUGE},
}
CUT = {
    "/v1/embeddings": {"input": HUGE, "truncate_prompt_tokens": -1},
    "/embed": {"inputs": [HUGE], "truncate": True, "truncation_direction": "Left"},
    "/score": {"text_1": HALF, "text_2": HALF, "truncate_prompt_tokens": 64},
    "/rerank": {"query": HALF, "documents": [HALF], "max_tokens_per_query": 9, "max_tokens_per_doc": 9},
    "/similarity": {"inputs": {"source_sentence": HALF, "sentences": [HALF]}},
}


@pytest.fixture(scope="module")
def served(tiny):
    with Served(*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[64x1]") as served:
        yield served


def vector(served: Served, **body: object) -> list[float]:
    answer = served.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["embedding"]


@pytest.mark.parametrize("path", [path for path in ROUTES if path != "/classify"])
def test_a_huge_text_is_refused(served, path):
    answer = served.post(path, json=ROUTES[path])
    assert answer.status_code in (400, 413, 422), answer.text
    assert "more than" in answer.text and len(answer.text) < 2000


@pytest.mark.parametrize("path", CUT)
def test_a_huge_text_is_cut_where_that_is_asked_for(served, path):
    assert served.post(path, json=CUT[path]).status_code == 200


def test_what_is_cut_is_what_its_beginning_gives(served):
    beginning = vector(served, input=HUGE[:1000], truncate_prompt_tokens=-1)
    assert vector(served, input=HUGE, truncate_prompt_tokens=-1) == pytest.approx(beginning, abs=1e-6)


LISTS = {
    "ids": b'{"input": [' + b",".join([b"5"] * 4_000_000) + b"]}",
    "lists": b'{"input": [' + b",".join([b"[5]"] * 1_900_000) + b"]}",
    "a long list": b'{"input": [[' + b",".join([b"5"] * 1_500_000) + b"]]}",
    "texts": b'{"input": [' + b",".join([b'""'] * 2_000_000) + b"]}",
    "to detokenize": b'{"tokens": [' + b",".join([b"5"] * 1_500_000) + b"]}",
    "lists to decode": b'{"ids": [' + b",".join([b"[5]"] * 1_000_000) + b"]}",
    "texts to describe": b'{"inputs": [' + b",".join([b'"hello world"'] * 100_000) + b"]}",
}
PATHS = {"to detokenize": "/detokenize", "lists to decode": "/decode", "texts to describe": "/tokenize"}


@pytest.mark.parametrize("name", LISTS)
def test_huge_lists_are_refused(served, name):
    answer = served.post(PATHS.get(name, "/v1/embeddings"), content=LISTS[name])
    assert answer.status_code in (400, 413), answer.text
    assert "is the most" in answer.text or "the longest Program takes" in answer.text


@pytest.mark.parametrize("blank", [" ", "\n", "\u200b"])
def test_millions_of_blanks_are_not_read_to_their_end(served, blank):
    text = blank * 1_200_000
    began = process_time(served)
    for path, body in (
        ("/tokenize", {"prompt": text}),
        ("/v1/embeddings", {"input": text, "truncate_prompt_tokens": -1}),
        ("/rerank", {"query": "a", "texts": [text]}),
    ):
        answer = served.post(path, json=body)
        assert answer.status_code in (400, 413) and "characters of which" in answer.text, (path, answer.text)
    assert process_time(served) - began < 4
    # A text may begin with many.
    assert served.post("/tokenize", json={"prompt": blank * 200_000 + "hello"}).status_code == 200


def process_time(served: Served) -> float:
    times = psutil.Process(served.process.pid).cpu_times()
    return times.user + times.system


def test_short_texts_are_answered_beside_a_storm_of_huge_ones_and_memory_comes_back(served):
    """A storm of clients that ask, wait no longer than they like, or leave; the same again costs no more memory."""
    process, memory = psutil.Process(served.process.pid), []
    end = threading.Event()

    def ask_on(number: int) -> None:
        path = [*ROUTES][number % len(ROUTES)]
        asks = [({}, 60.0), ({"X-Request-Timeout-Seconds": "0.2"}, 60.0), ({}, 0.05)]
        while not end.is_set():
            headers, patience = asks[number % 3]
            try:
                answer = httpx.post(served.url + path, json=ROUTES[path], headers=headers, timeout=patience)
            except httpx.TimeoutException:
                continue
            assert answer.status_code in (400, 413, 422, 504), answer.text

    for _ in range(3):
        end.clear()
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask_on, number) for number in range(6)]
            for _ in range(4):
                vector(served, input="hello world")
                assert served.get("/ready").status_code == 200
            end.set()
            for one in asked:
                one.result()
        memory.append(process.memory_info().rss)
    assert memory[2] - memory[1] < 60e6, memory
    requests = [line for line in served.get("/metrics").text.splitlines() if line.startswith("vllm:num_requests_")]
    assert sum(float(line.split()[-1]) for line in requests) == 0
