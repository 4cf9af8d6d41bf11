"""Overload, deadlines, cancelling, draining and dying, with real processes and signals.

Of the echo engine, which takes as long as it is told to; and what the pooling engine adds to it, of that.
"""

import contextlib
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from sendnn_pipeline.server.target import HttpTarget
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32, ECHO, Served, with_echo

# A tenth of a second for each step of eight texts.
STEP_SECONDS = 0.1
RUNNING, WAITING = "vllm:num_requests_running{", "vllm:num_requests_waiting{"
COMPUTED = "sendnn_pipeline:bucket_requests_total"


def texts(count, **more):
    return {"json": {"input": ["a"] * count, **more}}


@pytest.fixture(scope="module")
def start(tiny):
    """Start the echo engine with more words."""

    def start(*words, wait=True, **variables):
        slow = (*ECHO, f"model.path={tiny}", f"engine.step_ms={1000 * STEP_SECONDS:g}")
        return Served(*slow, *words, wait=wait, **with_echo(**variables))

    return start


@pytest.fixture(scope="module")
def shared(start):
    """A server for tests that leave it as it was."""
    with start("serve.max_queue=200") as served:
        yield served


@pytest.fixture
def slow(start):
    with start() as served:
        yield served


def metric(served: Served, name: str) -> float:
    lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_for(condition, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        time.sleep(0.02)


@contextlib.contextmanager
def asked(served: Served, count: int, **more):
    """Have a request of so many texts answered meanwhile; yields its future once it runs."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, "/v1/echo", **texts(count, **more))
        wait_for(lambda: metric(served, RUNNING) == 1)
        yield first


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def engine_of(served: Served) -> psutil.Process:
    children = psutil.Process(served.process.pid).children()
    return next(child for child in children if "spawn_main" in " ".join(child.cmdline()))


def test_a_full_queue_is_429_with_retry_after_and_probes_stay_quick(shared):
    with asked(shared, 150) as first:
        refused = shared.post("/v1/echo", **texts(151))
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        error = refused.json()["error"]
        assert error["code"] == "server_overloaded" and "serve.max_queue=200" in error["message"]
        began = time.monotonic()
        assert shared.get("/live").status_code == shared.get("/ready").status_code == 200
        assert time.monotonic() - began < 1 and not first.done()
        assert first.result().status_code == 200
    assert metric(shared, 'sendnn_pipeline:rejected_total{reason="queue_full"}') == 1
    # The whole queue is free again.
    assert shared.post("/v1/echo", **texts(200)).status_code == 200


def test_more_texts_than_the_queue_ever_takes_are_400(shared):
    answer = shared.post("/v1/echo", **texts(201))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "input"


def test_a_passed_deadline_is_504_and_leaves_the_queue(shared):
    computed = metric(shared, COMPUTED)
    with asked(shared, 120) as first:
        header = {"X-Request-Timeout-Seconds": "0.05"}
        late = shared.post("/v1/echo", **texts(48), headers=header)
        assert late.status_code == 504 and late.json()["error"]["code"] == "deadline_exceeded"
        assert first.result().status_code == 200
    assert metric(shared, COMPUTED) - computed == 120
    assert metric(shared, 'sendnn_pipeline:cancelled_total{stage="deadline"}') == 1


def test_a_client_that_leaves_is_not_computed_for(shared):
    computed = metric(shared, COMPUTED)
    with asked(shared, 64) as first:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{shared.url}/v1/echo", **texts(48), timeout=0.2)
        wait_for(lambda: metric(shared, 'sendnn_pipeline:cancelled_total{stage="client_gone"}') == 1)
        assert first.result().status_code == 200
    assert shared.post("/v1/echo", **texts(1)).status_code == 200
    assert metric(shared, COMPUTED) - computed == 65
    assert metric(shared, 'vllm:request_success_total{engine="0",finished_reason="abort"') == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_runs_refuses_new_work_and_exits_0(slow, number):
    engine = engine_of(slow)
    with asked(slow, 48) as first:
        # A terminal, or a supervisor, tells the whole group.
        engine.send_signal(number)
        slow.process.send_signal(number)
        slow.wait_line("draining 1 request")
        refused = slow.post("/v1/echo", **texts(1))
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert slow.get("/ready").status_code == 503 and slow.get("/live").status_code == 200
        assert first.result().status_code == 200 and len(first.result().json()["data"]) == 48
    assert slow.exit_code() == 0 and "drained" in slow.output
    assert gone(engine)


def test_a_drain_that_runs_out_of_time_answers_503_and_exits_non_zero(start):
    with start("serve.drain_seconds=0.2") as served, asked(served, 96) as first:
        served.terminate()
        assert first.result().status_code == 503
        assert served.exit_code() == 1 and "gave up on 1 request after 0.2 s" in served.output


def test_a_second_signal_ends_at_once_and_takes_the_engine_along(slow):
    engine = engine_of(slow)
    with contextlib.suppress(httpx.HTTPError), asked(slow, 800) as first:
        slow.terminate()
        slow.wait_line("draining")
        slow.process.send_signal(signal.SIGINT)
        assert slow.exit_code(seconds=5) == 128 + signal.SIGINT
        wait_for(lambda: gone(engine))
        first.result()


def test_a_killed_engine_answers_503_and_ends_the_server_with_its_reason(slow):
    with asked(slow, 800) as first, asked_stream(slow) as events:
        engine_of(slow).kill()
        # Whoever comes before its end was noticed is answered, too; then there is no server.
        answers = []
        with contextlib.suppress(httpx.ConnectError):
            answers += [slow.post("/v1/echo", **texts(1)) for _ in range(3)]
        for answer in (first.result(), *answers):
            assert answer.status_code == 503 and "SIGKILL" in answer.json()["error"]["message"]
        assert "SIGKILL" in list(events)[-1]["error"]["message"]
    assert slow.exit_code() == 1
    assert "error: the engine process was killed by SIGKILL" in slow.output


@contextlib.contextmanager
def asked_stream(served):
    with httpx.stream("POST", f"{served.url}/v1/echo", **texts(800, stream=True), timeout=60) as answer:
        yield (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))


def test_an_engine_whose_server_is_killed_ends_too(slow):
    engine = engine_of(slow)
    with contextlib.suppress(httpx.HTTPError), asked(slow, 800) as first:
        slow.process.kill()
        wait_for(lambda: gone(engine))
        first.result()


@pytest.mark.parametrize("stage", ["load", "compile", "warmup"])
def test_an_engine_that_fails_while_it_starts_is_one_line(start, stage):
    with start(f"engine.fail={stage}", wait=False) as served:
        assert served.exit_code() == 1
    errors = [line for line in served.output.splitlines() if "error" in line]
    assert errors == [f"error: the {stage} fails, as it was told to"]
    assert f"{stage} …" in served.output and f"{stage} done" not in served.output


def test_an_engine_that_fails_in_a_step_answers_who_waits_with_the_reason(start):
    with start("engine.fail=step") as served:
        answer = served.post("/v1/echo", **texts(3))
        assert answer.status_code == 503 and "the step fails, as it was told to" in answer.json()["error"]["message"]
        assert served.exit_code() == 1 and "error: the step fails, as it was told to" in served.output


def test_an_engine_that_hangs_holds_up_nobody_but_its_requests(start):
    """A deadline ends them; whoever still waits when the server is told to end, the time to drain."""
    with start("engine.hang=step", "serve.drain_seconds=0.2") as served:
        engine = engine_of(served)
        late = served.post("/v1/echo", **texts(3), headers={"X-Request-Timeout-Seconds": "0.1"})
        assert late.status_code == 504 and served.get("/live").status_code == 200
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(served.post, "/v1/echo", **texts(1))
            wait_for(lambda: metric(served, WAITING) == 1)
            served.terminate()
            assert waiting.result().status_code == 503
        assert served.exit_code() == 1 and "gave up on 1 request" in served.output
    assert gone(engine)


@pytest.mark.parametrize("stage", ["load", "compile", "warmup"])
def test_a_signal_while_it_starts_exits_0_and_takes_the_engine_along(start, stage):
    with start(f"engine.hang={stage}", wait=False) as served:
        served.wait_line(f"{stage} …")
        engine = engine_of(served)
        served.terminate()
        assert served.exit_code() == 0
        assert "stopped before it was ready" in served.output
    assert gone(engine)


def test_without_the_handlers_sigterm_has_its_default_effect(start):
    with start(SENDNN_INFERENCE_OVERRIDE_SIGNALS_HANDLER="0") as served:
        engine = engine_of(served)
        served.terminate()
        assert served.exit_code() == -signal.SIGTERM
        wait_for(lambda: gone(engine))


@pytest.mark.parametrize("ending", ["drained", "second signal", "hangup", "no handlers", "killed"])
def test_no_file_of_a_server_stays_after_it(start, tmp_path, ending):
    handlers = {"SENDNN_INFERENCE_OVERRIDE_SIGNALS_HANDLER": "0"} if ending == "no handlers" else {}
    with start(TMPDIR=str(tmp_path), **handlers) as served, contextlib.suppress(httpx.HTTPError):
        engine = engine_of(served)
        (scratch,) = tmp_path.iterdir()
        assert scratch.name.startswith("sendnn-")
        with asked(served, 800) if ending == "second signal" else contextlib.nullcontext():
            served.process.send_signal({"hangup": signal.SIGHUP, "killed": signal.SIGKILL}.get(ending, signal.SIGTERM))
            if ending == "second signal":
                served.wait_line("draining")
                served.terminate()
            served.exit_code()
        wait_for(lambda: gone(engine))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pooling(tiny):
    """The pooling engine, a text a step."""
    with Served(*EAGER_FLOAT32, f"model.path={tiny}", "process.num_cpus=1", "warmup.shapes=[16x1]") as served:
        yield served


def test_the_pooling_engine_itself_drops_what_is_too_late(pooling):
    """Sooner than the edge would have to."""
    header = {"X-Request-Timeout-Seconds": "0.2"}
    late = pooling.post("/v1/embeddings", **texts(2000), headers=header)
    assert late.status_code == 504 and "before it was computed" in late.json()["error"]["message"]
    assert metric(pooling, WAITING) == metric(pooling, RUNNING) == 0 and metric(pooling, COMPUTED) < 2000


def test_the_pooling_engine_finishes_what_runs_and_exits_0(pooling):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(pooling.post, "/v1/embeddings", **texts(1500))
        wait_for(lambda: metric(pooling, RUNNING) == 1)
        pooling.terminate()
        pooling.wait_line("draining 1 request")
        assert first.result().status_code == 200 and len(first.result().json()["data"]) == 1500
    assert pooling.exit_code() == 0 and "drained" in pooling.output


def test_a_port_in_use_is_one_line_before_anything_is_loaded(tiny, in_process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", f"serve.port={port}")
    assert ended.returncode == 1
    (line,) = [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("error")]
    assert f"serve.port={port}" in line and "in use" in line and "serve.port" in line.split(";")[1]
    assert "load" not in ended.stdout


def test_a_port_that_is_prepared_is_nobody_elses(tiny):
    """Two sockets that are only bound share a port, and the second to listen fails: long after the first was told."""
    resolved = resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "serve.port=0"])
    target = HttpTarget()
    target.prepare(resolved.run, {})
    with target.listening as listening, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(listening.getsockname())
    target.tokenizer.close()


def test_the_perf_log_is_appended_and_its_times_leave_nothing_out(tiny, tmp_path: Path):
    log = tmp_path / "request_metrics.jsonl"
    log.write_text('{"from": "before"}\n')
    words = (*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[16x2,48x2]")
    variables = {
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_ENABLED": "1",
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR": str(tmp_path),
        "SENDNN_INFERENCE_BENCH_METRICS_ENABLED": "1",
    }
    with Served(*words, **variables) as served:
        answer = served.post("/v1/embeddings", json={"input": ["hello", "hello world"]}, headers={"X-Request-Id": "me"})
        assert answer.json()["usage"].keys() >= {"queued_time_seconds", "prefill_time_seconds"}
        served.post("/v1/embeddings", json={"input": ""})
    first, *lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert first == {"from": "before"} and len(lines) == 2
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
    assert (failed["route"], failed["status"], failed["code"]) == ("/v1/embeddings", 400, "empty_input")
    startup = (tmp_path / "perf_log_rank_0.txt").read_text()
    for name in ("load model time", "compile time", "warmup 1 time", "total warmup time"):
        assert f", {name}, " in startup


def test_metrics_are_prometheus_text_under_the_pinned_names(served_echo):
    from prometheus_client.parser import text_string_to_metric_families

    served_echo.post("/v1/echo", json={"input": "a text"})
    families = {family.name: family for family in text_string_to_metric_families(served_echo.get("/metrics").text)}
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
        "sendnn_pipeline:http_requests",
        "sendnn_pipeline:engine_process_virtual_memory_bytes",
        "sendnn_pipeline:engine_process_resident_memory_bytes",
        "sendnn_pipeline:engine_process_start_time_seconds",
        "sendnn_pipeline:engine_process_cpu_seconds",
        "sendnn_pipeline:engine_process_open_fds",
        "sendnn_pipeline:engine_process_max_fds",
    }
    engine = psutil.Process(served_echo.get("/info").json()["engine"]["pid"])
    resident = families["sendnn_pipeline:engine_process_resident_memory_bytes"].samples[0].value
    assert resident == pytest.approx(engine.memory_info().rss, rel=0.2)
    assert families["sendnn_pipeline:recompiles"].samples[0].value == 0
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels <= {
        "model_name", "engine", "finished_reason", "bucket", "le", "phase", "shape", "source", "name", "version",
        "device", "event", "fallback", "reason", "stage", "implementation", "major", "minor", "patchlevel",
        "route", "status",
    }  # fmt: skip
