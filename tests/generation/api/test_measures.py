"""What is told of a request beside its text: metrics, the performance log, and what clients made for Spyre read."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.generation.api.models import events
from tests.served import EAGER_FLOAT32, Served

BODY = {"prompt": "The assert statement " * 12, "max_tokens": 9, "ignore_eos": True}
SPYRE = {
    "queued_time_s": float,
    "num_chunked_prefills": int,
    "chunk_prefill_latencies_s": list,
    "chunk_prefill_start_times_s": list,
    "decode_latencies_s": list,
    "decode_start_times_s": list,
    "tkvs": list,
    "prefill_elapsed_s": float,
    "prefill_busy_s": float,
    "prefill_idle_s": float,
    "prefix_cache_hit_pct": (int, float),
    "left_padding_blocks": list,
    "pause_latencies_s": list,
    "pause_start_times_s": list,
    "was_missing_blocks": bool,
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("perf")


@pytest.fixture(scope="module")
def served(llama, logs):
    words = ("scheduler.chunk_size=64", "scheduler.max_num_seqs=2", "metrics.request_details=true")
    perf = ("metrics.perf_log.enabled=true", f"metrics.perf_log.dir={logs}")
    with Served(*EAGER_FLOAT32, f"model.path={llama}", *words, *perf) as one:
        yield one


def samples(served):
    families = text_string_to_metric_families(served.get("/metrics").text)
    return {(sample.name, sample.labels.get("reason", "")): sample.value for f in families for sample in f.samples}


def test_metrics_and_log_agree_with_usage(served, logs):
    before = samples(served)
    answer = served.post("/v1/completions", json=BODY | {"n": 2}).json()
    now = {key: value - before.get(key, 0.0) for key, value in samples(served).items()}
    usage = answer["usage"]
    assert usage["completion_tokens"] == 18 and now["vllm:generation_tokens_total", ""] == 18
    assert now["vllm:inter_token_latency_seconds_count", ""] == 16
    assert now["vllm:time_to_first_token_seconds_count", ""] == 2
    assert now["vllm:request_generation_tokens_sum", ""] == 18
    # The second answer to a prompt finds what the first had computed.
    assert now["vllm:prefix_cache_queries_total", ""] == 2 * usage["prompt_tokens"]
    hits = now["vllm:prefix_cache_hits_total", ""]
    assert now["vllm:prompt_tokens_total", ""] == 2 * usage["prompt_tokens"] - hits
    assert samples(served)["vllm:kv_cache_usage_perc", ""] == 0.0
    line = json.loads((logs / "request_metrics.jsonl").read_text().splitlines()[-1])
    assert line["num_prompt_tokens"] == usage["prompt_tokens"] and line["num_generation_tokens"] == 18
    assert line["max_tokens_param"] == 9 and line["finish_reason"] == "length"
    known = (
        "e2e_latency",
        "queued_time",
        "prefill_time",
        "inference_time",
        "decode_time",
        "mean_time_per_output_token",
    )
    for name in (*known, "mean_time_per_output_token", "prefill_interrupt", "decode_only_itl"):
        assert 0 <= line[f"{name}_seconds"] <= line["e2e_latency_seconds"] * 2, name
    assert line["mean_time_per_output_token_seconds"] == pytest.approx(line["decode_time_seconds"] / 16)


def test_why_requests_wait_is_counted(served):
    bodies = [{**BODY, "prompt": [f"{number} {BODY['prompt']}" for number in range(5)], "max_tokens": 30}]
    served.post("/v1/completions", json=bodies[0])
    assert samples(served)["sendnn_pipeline:refusals_total", "sequence_slots"] > 0


def test_the_last_event_of_a_stream_has_what_spyre_s_clients_read(served):
    *parts, last = events(served, "/v1/completions", {**BODY, "stream_options": {"include_usage": True}})
    assert all("spyre_metrics" not in part for part in parts)
    told = last["spyre_metrics"]
    assert told.keys() == SPYRE.keys() and all(isinstance(told[name], kind) for name, kind in SPYRE.items())
    prompt_tokens = last["usage"]["prompt_tokens"]
    assert len(told["decode_latencies_s"]) == len(told["left_padding_blocks"]) == 8
    assert len(told["tkvs"]) == told["num_chunked_prefills"] + 8
    assert told["prefill_elapsed_s"] >= told["prefill_busy_s"] > 0 and not told["was_missing_blocks"]
    planned = -(-prompt_tokens // 64)
    assert told["prefix_cache_hit_pct"] == pytest.approx((planned - told["num_chunked_prefills"]) / planned)
    assert "spyre_metrics" not in served.post("/v1/completions", json=BODY).json()
