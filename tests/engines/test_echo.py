"""An engine that imports no torch, through all that a run can be: what the rest of the code asks of an engine.

Over HTTP whole and streamed, in batch files, in benches, and without serving; in sweeps it is in app/test_sweep.py.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.served import EAGER_FLOAT32, ECHO, ROOT, Served, environment, with_echo

TEXTS = ["hello world", "the world is a", "a"]
# Of 600 tokens, one a piece: of eight pieces a step, 75 steps.
LONG = ["a " * 60] * 10


def events_of(lines):
    """Yield the content of every event of a stream as it comes, with the time; None for its end."""
    data = []
    for line in lines:
        if line:
            field, _, value = line.partition(": ")
            assert field == "data"
            data.append(value)
        elif data:
            text, data = "\n".join(data), []
            yield (None if text == "[DONE]" else json.loads(text)), time.monotonic()


@contextmanager
def streamed(served, body, **headers):
    """Ask for a stream, and yield the answer with its events."""
    with httpx.stream("POST", f"{served.url}/v1/echo", json={**body, "stream": True}, headers=headers) as answer:
        yield answer, events_of(answer.iter_lines())


def metric(served, name):
    lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_for(condition, seconds=30):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def slow(tiny):
    """Twenty milliseconds a step."""
    words = (*ECHO, f"model.path={tiny}", "engine.step_ms=20", "serve.max_queue=40")
    with Served(*words, **with_echo()) as served:
        yield served


def test_a_whole_answer(served_echo, tiny):
    answer = served_echo.post("/v1/echo", json={"input": TEXTS, "model": tiny.name}).json()
    assert answer["data"] == TEXTS and answer["model"] == tiny.name
    bare = {"add_special_tokens": False}
    count = sum(served_echo.post("/tokenize", json={"prompt": text, **bare}).json()["count"] for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": count, "total_tokens": count}


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_is_no_stream(served_echo, stream):
    for body, status, param in (
        ({"input": []}, 400, "input"),
        ({"input": ["a", "a " * 100]}, 400, "input[1]"),
        ({"input": "a", "model": "another"}, 404, "model"),
        ({"input": 3}, 400, "input"),
    ):
        answer = served_echo.post("/v1/echo", json={**body, "stream": stream})
        assert answer.status_code == status and answer.json()["error"]["param"] == param, answer.text
        assert answer.headers["content-type"] == "application/json"


def test_a_stream_comes_part_by_part(slow):
    with streamed(slow, {"input": ["hello world " * 20]}) as (answer, events):
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
        found, _ = zip(*events, strict=True)
    *parts, usage, end = found
    assert end is None and usage == {"usage": {"prompt_tokens": 40, "total_tokens": 40}}
    assert " ".join(part["token"] for part in parts) == ("hello world " * 20).strip()
    # That they come while others are computed is seen where a client leaves in the middle.
    assert len(parts) == 40


def test_streams_and_whole_answers_side_by_side(slow):
    def one(number):
        text = f"{'a b c d e f g'[: 2 * number + 1]}"
        if number % 2:
            return text, slow.post("/v1/echo", json={"input": text}).json()["data"][0]
        with streamed(slow, {"input": text}) as (_, events):
            return text, " ".join(event["token"] for event, _ in events if event and "token" in event)

    with ThreadPoolExecutor(7) as pool:
        for asked, answered in pool.map(one, range(7)):
            assert asked == answered


def test_a_client_that_leaves_in_the_middle_of_a_stream_frees_it(slow):
    aborted = 'vllm:request_success_total{engine="0",finished_reason="abort"'
    gone = 'sendnn_pipeline:cancelled_total{stage="client_gone"}'
    before = {name: metric(slow, name) for name in (aborted, gone, "vllm:prompt_tokens_total")}
    with streamed(slow, {"input": LONG}) as (_, events):
        assert next(events)[0] == {"token": "a"}
        assert metric(slow, "vllm:num_requests_running{") == 1
        # While it runs, its texts are in the queue.
        full = slow.post("/v1/echo", json={"input": ["a"] * 38})
        assert full.status_code == 429 and "have no answer yet" in full.json()["error"]["message"]
    wait_for(lambda: metric(slow, gone) == before[gone] + 1)
    assert metric(slow, "vllm:num_requests_running{") == metric(slow, "vllm:num_requests_waiting{") == 0
    assert metric(slow, aborted) == before[aborted] + 1
    assert slow.post("/v1/echo", json={"input": ["a"] * 38}).status_code == 200
    # Of its 600 tokens most were never computed.
    assert metric(slow, "vllm:prompt_tokens_total") - before["vllm:prompt_tokens_total"] < 300


def test_a_client_that_leaves_before_the_first_part_frees_it_too(slow):
    gone = 'sendnn_pipeline:cancelled_total{stage="client_gone"}'
    before = metric(slow, gone)
    with streamed(slow, {"input": LONG}) as (_, events), pytest.raises(httpx.ReadTimeout):
        next(events)
        httpx.post(f"{slow.url}/v1/echo", json={"input": LONG, "stream": True}, timeout=0.1)
    wait_for(lambda: metric(slow, gone) == before + 2)
    assert metric(slow, "vllm:num_requests_waiting{") == 0


def test_a_deadline_that_passes_ends_a_stream_with_its_error(slow):
    failed = 'vllm:request_success_total{engine="0",finished_reason="error"'
    before = metric(slow, failed)
    with streamed(slow, {"input": LONG}, **{"X-Request-Timeout-Seconds": "0.05"}) as (answer, events):
        found = [event for event, _ in events]
    *parts, error, end = found
    assert answer.status_code == 200 and end is None and None not in parts
    assert parts and error["error"]["code"] == "deadline_exceeded"
    assert metric(slow, failed) == before + 1 and metric(slow, "vllm:num_requests_waiting{") == 0


def test_a_drain_lets_a_stream_finish_and_refuses_new_ones(tiny):
    with Served(*ECHO, f"model.path={tiny}", "engine.step_ms=20", **with_echo()) as served:
        with streamed(served, {"input": LONG}) as (_, events):
            next(events)
            served.terminate()
            served.wait_line("draining 1 request")
            refused = served.post("/v1/echo", json={"input": "a", "stream": True})
            assert refused.status_code == 503 and refused.headers["retry-after"]
            *rest, usage, end = [event for event, _ in events]
        assert len(rest) == 599 and usage["usage"]["prompt_tokens"] == 600 and end is None
        assert served.exit_code() == 0


def test_nothing_of_torch_is_in_its_processes(served_echo):
    engine = served_echo.get("/info").json()["engine"]
    assert engine["resident_bytes"] < 150 * 2**20
    (rank,) = (child for child in psutil.Process(served_echo.process.pid).children() if child.pid == engine["pid"])
    for process in (served_echo.process, rank):
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "zmq" in maps and "torch" not in maps


def test_info_and_routes_are_the_engine_s_own(served_echo):
    info = served_echo.get("/info").json()
    assert [program["name"] for program in info["programs"]] == ["echo[batch=1..8]"]
    assert info["limits"]["max_input_tokens"] == 64 and "task" not in info["model"]
    assert served_echo.post("/v1/embeddings", json={"input": "a"}).status_code == 404


def write(file, values):
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


@pytest.fixture
def batch(echo_run, tiny):
    def run(source, output, *words):
        return echo_run(
            "serve=batch", *ECHO, f"model.path={tiny}", f"serve.input={source}", f"serve.output={output}", *words
        )

    return run


def test_batch_files(batch, tmp_path):
    openai = {"method": "POST", "url": "/v1/echo"}
    source = write(
        tmp_path / "in.jsonl",
        [
            {"id": 1, "text": "hello world"},
            "the world",
            {"custom_id": "whole", **openai, "body": {"input": TEXTS}},
            {"custom_id": "stream", **openai, "body": {"input": TEXTS, "stream": True}},
            {"custom_id": "nowhere", **openai, "url": "/v1/embeddings", "body": {"input": "a"}},
            {"custom_id": "empty", **openai, "body": {"input": []}},
            {"custom_id": "wrong", **openai, "body": {"input": 3}},
            {"id": 8, "nothing": "of ours"},
            {"id": 9, "text": "a " * 100},
        ],
    )
    ended = batch(source, tmp_path / "out.jsonl", "serve.chunk_lines=2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    one, two, whole, stream, nowhere, empty, wrong = lines
    assert one == {"id": 1, "line": 1, "echo": ["hello world"]} and two == {"line": 2, "echo": ["the world"]}
    assert whole["response"]["body"]["data"] == TEXTS and whole["response"]["status_code"] == 200
    # A file has no stream: its line is answered whole.
    assert " ".join(stream["response"]["body"]["data"]) == " ".join(TEXTS)
    # Refused lines have what the request has over HTTP.
    statuses = [line["response"]["status_code"] for line in (nowhere, empty, wrong)]
    messages = [line["response"]["body"]["error"]["message"] for line in (nowhere, empty, wrong)]
    assert statuses == [404, 400, 400] and all(line["error"] is None for line in (nowhere, empty, wrong))
    assert "its url is '/v1/embeddings'; known are /v1/echo" in messages[0]
    assert messages[1] == "input is empty" and "input" in messages[2]
    bad = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    assert [one["line"] for one in bad] == [5, 6, 7, 8, 9] and "has nothing that a route" in bad[3]["error"]
    assert "100 tokens and 64 is the most" in bad[4]["error"] and "9 lines, 5 of them bad" in ended.stdout


def test_an_array_needs_rows_which_it_does_not_give(batch, tmp_path):
    refused = batch(write(tmp_path / "in.jsonl", ["a"]), tmp_path / "out.npy")
    assert refused.returncode == 2 and "the engine echo gives no rows; use a .jsonl file" in refused.stderr
    assert "load" not in refused.stdout


BENCH = ("serve=bench", *ECHO, "workload.num_requests=6", "workload.texts_per_request=2", "workload.most=30")


@pytest.mark.parametrize("transport", ["engine", "http"])
@pytest.mark.parametrize("stream", [False, True])
def test_benches(tiny, tmp_path, transport, stream, echo_run):
    words = [f"model.path={tiny}", f"serve.output={tmp_path}", "serve.rounds=2", f"serve.transport={transport}"]
    words += ["engine.step_ms=5", f"engine.stream={stream}", "workload.concurrency=2"]
    ended = echo_run(*BENCH, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert (figures["num_requests"], figures["num_failed"]) == (12, 0)
    (program,) = figures["programs"].values()
    assert program["real_tokens"] == sum(sample["num_tokens"] for sample in samples) > 0
    assert figures["tokens_per_second"]["median"] > 0 and (tmp_path / "bench.png").stat().st_size > 1000
    assert ("ttft_ms" in figures) == ("itl_ms" in figures) == stream
    if stream:
        # A part a token, and a step at least before the first.
        assert all(len(sample["answers"]) == sample["num_tokens"] for sample in samples)
        assert all(sample["answers"] == sorted(sample["answers"]) for sample in samples)
        assert 5 <= figures["ttft_ms"]["p50"] <= figures["latency_ms"]["p50"]
        assert figures["itl_ms"]["p50"] < figures["ttft_ms"]["p50"] and "ttft" in ended.stdout
    else:
        assert all(len(sample["answers"]) == 1 for sample in samples)


def test_a_stream_that_breaks_off_is_a_failed_request(tiny, tmp_path, echo_run):
    """Over HTTP the status was sent before: the error is the last event."""
    words = [f"model.path={tiny}", f"serve.output={tmp_path}", "serve.rounds=1", "serve.transport=http"]
    words += ["engine.step_ms=100", "engine.stream=true", "serve.request_timeout_seconds=0.1"]
    ended = echo_run(*BENCH, *words, "workload.least=30", "workload.num_requests=2")
    assert ended.returncode == 1 and "2 of 2 requests failed" in ended.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert figures["num_failed"] == 2 and "the deadline passed" in figures["errors"][0]


def test_without_serving(tiny, echo_run):
    ended = echo_run("pipeline=precompile", *ECHO, f"model.path={tiny}")
    assert ended.returncode == 0 and f"{tiny.name} is warm after" in ended.stdout, ended.stdout + ended.stderr
    assert "warmup 1/1 echo[batch=1..8]" in ended.stdout and "echo, 0 ms a step" in ended.stdout


def test_its_keys_are_its_own(tiny, echo_run):
    words = (*ECHO, f"model.path={tiny}", "engine.step_ms=2.5", "warmup.shapes=[8x1]")
    said = echo_run("explain", "engine", *words).stdout
    assert "engine.step_ms = 2.5\n  engine=echo: How long a step takes." in said
    wrong = echo_run(*ECHO, f"model.path={tiny}", "engine.step_ms=soon")
    assert wrong.returncode == 2 and "engine.step_ms" in wrong.stderr
    ended = echo_run("pipeline=precompile", *words)
    assert "warmup.shapes (set by warmup.shapes=[8x1]) is not used by this run" in ended.stdout


def test_a_model_is_not_its_own_where_nobody_chose_it_nor_are_its_times(tiny, tmp_path, echo_run):
    words = (*EAGER_FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path}")
    ended = echo_run("pipeline=precompile", *words, "engine=echo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = echo_run("explain", *words)
    assert said.returncode == 0, said.stderr
    assert "engine.name = pooling" in said.stdout and "BertModel gives embeddings" in said.stdout
    assert "warmup.shapes = [8..64x1..128]" in said.stdout


CODE = """
import sys
from sendnn_pipeline import Embedder
from sendnn_pipeline.errors import ConfigError
try:
    Embedder(*sys.argv[1:]).start()
except ConfigError as error:
    print(error)
"""


def test_from_python_it_has_no_embeddings(tiny):
    command = [sys.executable, "-c", CODE, *ECHO, f"model.path={tiny}"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(**with_echo()), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.startswith("Embedder asks for /v1/embeddings, which engine=echo of tiny"), ended.stderr
