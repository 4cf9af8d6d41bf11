"""Overload, deadlines, cancelling, draining and dying, with real processes and signals."""

import contextlib
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.served import Served, sendnn

# One slow Program: 4,096 tokens a step take about a second, so 48 texts take three.
SLOW = ("model=minilm", "backend=eager", "warmup.shapes=[256x16]", "serve.max_queue=100", "serve.drain_seconds=60")


@pytest.fixture
def slow(minilm):
    with Served(*SLOW) as served:
        yield served


@pytest.fixture(scope="module")
def shared(minilm):
    """A slow server for tests that leave it as it was."""
    with Served(*SLOW) as served:
        yield served


def metric(served: Served, name: str) -> float:
    lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_for(condition, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never held"
        time.sleep(0.02)


def test_a_full_queue_is_429_with_retry_after_and_probes_stay_quick(shared):
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.post, "/v1/embeddings", json={"input": ["word"] * 60})
        wait_for(lambda: metric(shared, "vllm:num_requests_running") == 1)
        refused = shared.post("/v1/embeddings", json={"input": ["word"] * 60})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "server_overloaded" and "100" in refused.json()["error"]["message"]
        assert shared.get("/live").status_code == shared.get("/ready").status_code == 200
        assert first.result().status_code == 200
    assert metric(shared, 'sendnn_pipeline:rejected_total{reason="queue_full"}') == 1


def test_a_passed_deadline_is_504_and_leaves_the_queue(shared):
    computed = metric(shared, "sendnn_pipeline:bucket_requests_total")
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.post, "/v1/embeddings", json={"input": ["word"] * 48})
        wait_for(lambda: metric(shared, "vllm:num_requests_running") == 1)
        header = {"X-Request-Timeout-Seconds": "0.05"}
        late = shared.post("/v1/embeddings", json={"input": ["word"] * 48}, headers=header)
        assert late.status_code == 504 and late.json()["error"]["code"] == "deadline_exceeded"
        assert first.result().status_code == 200
    assert metric(shared, "sendnn_pipeline:bucket_requests_total") - computed == 48


def test_a_client_that_leaves_is_not_computed_for(shared):
    computed = metric(shared, "sendnn_pipeline:bucket_requests_total")
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.post, "/v1/embeddings", json={"input": ["word"] * 48})
        wait_for(lambda: metric(shared, "vllm:num_requests_running") == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{shared.url}/v1/embeddings", json={"input": ["word"] * 48}, timeout=0.3)
        wait_for(lambda: metric(shared, 'sendnn_pipeline:cancelled_total{stage="client_gone"}') == 1)
        assert first.result().status_code == 200
    assert shared.post("/v1/embeddings", json={"input": "after"}).status_code == 200
    assert metric(shared, "sendnn_pipeline:bucket_requests_total") - computed == 49
    assert metric(shared, 'vllm:request_success_total{engine="0",finished_reason="abort"') == 1


def test_sigterm_finishes_what_runs_refuses_new_work_and_exits_0(slow):
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(slow.post, "/v1/embeddings", json={"input": ["word"] * 96})
        wait_for(lambda: metric(slow, "vllm:num_requests_running") == 1)
        slow.terminate()
        slow.wait_line("draining 1 request")
        refused = slow.post("/v1/embeddings", json={"input": "new"})
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert slow.get("/ready").status_code == 503 and slow.get("/live").status_code == 200
        assert first.result().status_code == 200 and len(first.result().json()["data"]) == 96
    assert slow.exit_code() == 0
    assert "drained" in slow.output


def test_a_drain_that_runs_out_of_time_answers_503_and_exits_non_zero(minilm):
    words = ("model=minilm", "backend=eager", "warmup.shapes=[256x16]", "serve.drain_seconds=0.2")
    with Served(*words) as served, ThreadPoolExecutor(4) as pool:
        first = pool.submit(served.post, "/v1/embeddings", json={"input": ["word"] * 96})
        wait_for(lambda: metric(served, "vllm:num_requests_running") == 1)
        served.terminate()
        assert first.result().status_code == 503
        assert served.exit_code() == 1 and "gave up on 1 requests" in served.output


def test_more_texts_than_the_queue_ever_holds_are_400(shared):
    answer = shared.post("/v1/embeddings", json={"input": ["word"] * 101})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "input"


def test_a_second_signal_ends_at_once_and_takes_the_engine_along(slow):
    rank = psutil.Process(slow.process.pid).children()[-1]
    threading.Thread(target=lambda: _ignore(slow), daemon=True).start()
    wait_for(lambda: metric(slow, "vllm:num_requests_running") == 1)
    slow.terminate()
    slow.wait_line("draining")
    slow.process.send_signal(signal.SIGINT)
    assert slow.exit_code(seconds=5) == 128 + signal.SIGINT
    wait_for(lambda: not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE)


def _ignore(served: Served) -> None:
    with contextlib.suppress(httpx.HTTPError):
        served.post("/v1/embeddings", json={"input": ["word"] * 96})


def engine_of(served: Served) -> psutil.Process:
    children = psutil.Process(served.process.pid).children()
    return next(child for child in children if "spawn_main" in " ".join(child.cmdline()))


def test_a_killed_engine_answers_503_and_ends_the_server_with_its_reason(slow):
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(slow.post, "/v1/embeddings", json={"input": ["word"] * 96})
        wait_for(lambda: metric(slow, "vllm:num_requests_running") == 1)
        engine_of(slow).kill()
        answer = first.result()
        assert answer.status_code == 503 and "SIGKILL" in answer.json()["error"]["message"]
    assert slow.exit_code() == 1
    assert "error: the engine process was killed by SIGKILL" in slow.output


def test_an_engine_whose_server_is_killed_ends_too(tiny):
    with Served("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]") as served:
        engine = engine_of(served)
        served.process.kill()
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


def test_sigterm_while_loading_exits_0(tiny):
    with Served("model=local", f"model.path={tiny}", "backend=eager", wait=False) as served:
        served.wait_line("load …")
        served.terminate()
        assert served.exit_code() == 0
        assert "stopped while loading" in served.output


def test_without_the_handlers_sigterm_has_its_default_effect(tiny):
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]")
    with Served(*words, SENDNN_INFERENCE_OVERRIDE_SIGNALS_HANDLER="0") as served:
        engine = engine_of(served)
        served.terminate()
        assert served.exit_code() == -signal.SIGTERM
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


def test_a_port_in_use_is_one_line_before_anything_is_loaded(tiny):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = sendnn("model=local", f"model.path={tiny}", "backend=eager", f"serve.port={port}")
    assert ended.returncode == 1
    (line,) = [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("error")]
    assert f"serve.port={port}" in line and "in use" in line and "serve.port" in line.split(";")[1]
    assert "load" not in ended.stdout


def test_the_perf_log_is_appended_and_its_times_leave_nothing_out(tiny, tmp_path: Path):
    kept = tmp_path / "request_metrics.jsonl"
    kept.write_text('{"kept": true}\n')
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x2,48x2]")
    variables = {
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_ENABLED": "1",
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR": str(tmp_path),
        "SENDNN_INFERENCE_BENCH_METRICS_ENABLED": "1",
    }
    with Served(*words, **variables) as served:
        answer = served.post("/v1/embeddings", json={"input": ["hello", "hello world"]}, headers={"X-Request-Id": "me"})
        assert answer.json()["usage"].keys() >= {"queued_time_seconds", "prefill_time_seconds"}
        served.post("/v1/embeddings", json={"input": ""})
    first, *lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert first == {"kept": True} and len(lines) == 2
    done, failed = lines
    parts = ("receive", "tokenize", "to_engine", "queued", "inference", "from_engine", "serialize")
    assert sum(done[f"{part}_time_seconds"] for part in parts) == pytest.approx(done["e2e_latency_seconds"], abs=1e-6)
    assert all(done[f"{part}_time_seconds"] >= 0 for part in parts)
    assert done["request_id"] == "me" and done["num_prompt_tokens"] == 7 and done["finish_reason"] == "stop"
    # Which of the two is cheaper is measured, and other load can turn that round.
    padding_of = {"pool[batch=2,len=16]": 2 * 16 - 7, "pool[batch=2,len=48]": 2 * 48 - 7}
    (program,) = done["programs"]
    assert done["padding_tokens"] == padding_of[program]
    assert done["timestamp"].endswith("Z") and failed["finish_reason"] == "error"
    startup = (tmp_path / "perf_log_rank_0.txt").read_text()
    for name in ("load model time", "compile time", "warmup 1 time", "total warmup time"):
        assert f", {name}, " in startup


def test_metrics_are_prometheus_text_under_the_pinned_names(served_tiny):
    from prometheus_client.parser import text_string_to_metric_families

    served_tiny.post("/v1/embeddings", json={"input": "a text"})
    families = {family.name: family for family in text_string_to_metric_families(served_tiny.get("/metrics").text)}
    ours = {name for name in families if name.startswith(("vllm:", "sendnn_pipeline:"))}
    ours = {name for name in ours if not name.endswith("_created")}
    assert ours == {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:prompt_tokens",
        "vllm:request_success",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_prompt_tokens",
        "vllm:iteration_tokens_total",
        "sendnn_pipeline:real_tokens",
        "sendnn_pipeline:padding_tokens",
        "sendnn_pipeline:bucket_requests",
        "sendnn_pipeline:batch_fill_ratio",
        "sendnn_pipeline:artifact_cache_events",
        "sendnn_pipeline:compile_seconds",
        "sendnn_pipeline:startup_phase_seconds",
        "sendnn_pipeline:recompiles",
        "sendnn_pipeline:backend_info",
        "sendnn_pipeline:plugin_load_failures",
        "sendnn_pipeline:rejected",
        "sendnn_pipeline:cancelled",
        "sendnn_pipeline:engine_last_step_timestamp_seconds",
    }
    assert families["sendnn_pipeline:recompiles"].samples[0].value == 0
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels <= {
        "model_name", "engine", "finished_reason", "bucket", "le", "phase", "shape", "source", "name", "version",
        "device", "event", "fallback", "reason", "stage", "implementation", "major", "minor", "patchlevel",
    }  # fmt: skip
