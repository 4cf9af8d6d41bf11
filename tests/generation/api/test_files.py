"""Batch files and benches of generation."""

import json

from tests.generation.api.models import Reference
from tests.served import EAGER_FLOAT32

FEW = ("scheduler.max_num_seqs=8",)


def test_lines_of_both_routes_and_of_ones_own(llama, tmp_path, whole_run):
    chat = {"messages": [{"role": "user", "content": "What is assert?"}], "max_tokens": 8}
    lines = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat},
        {"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"prompt": "if", "max_tokens": 8}},
        {"id": 1, "prompt": "if", "max_tokens": 8, "seed": None},
        {"id": 2, **chat, "n": 2},
        {"id": 3, "text": "if"},
        {"id": 4, "prompt": "if", "max_tokens": 8, "temperature": -1},
        {"id": 5, "prompt": "if", **chat},
        {"id": 6, "prompt": "if", "text": "if"},
        {"custom_id": "c", "url": "/v1/completions", "body": {"prompt": "if", "logit_bias": {"999": 1}}},
    ]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("serve=batch", *EAGER_FLOAT32, f"model.path={llama}", *FEW, f"serve.input={source}")
    ended = whole_run(*words, f"serve.output={output}")
    assert ended.returncode == 0, ended.stderr
    found = {line.get("custom_id", line.get("id")): line for line in map(json.loads, output.read_text().splitlines())}
    reference = Reference(llama)
    expected = reference.tokenizer.decode(
        reference.greedy(reference.tokenizer("if")["input_ids"], 8), skip_special_tokens=True
    )
    body = found["b"]["response"]["body"]
    assert body["choices"][0]["text"] == expected == found[1]["completion"]
    assert found["a"]["response"]["body"]["object"] == "chat.completion"
    assert len(found[2]["completion"]) == 2
    assert found[3]["completion"].startswith(expected)
    bad = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    texts = json.dumps([*bad, found.get("c")])
    assert "temperature" in texts and "logit_bias" in texts
    twice = {line["id"]: line["error"] for line in bad if line.get("id") in (5, 6)}
    assert "prompt and messages" in twice[5] and "prompt and text" in twice[6] and not {5, 6} & found.keys()


def test_a_bench_asks_for_streams_of_one_length(llama, tmp_path, whole_run):
    workload = ("num_requests=6", "texts_per_request=1", "output_tokens=5", "concurrency=3", "max_tokens=40")
    words = ("serve=bench", *EAGER_FLOAT32, f"model.path={llama}", *FEW, "serve.rounds=1", f"serve.output={tmp_path}")
    ended = whole_run(*words, *(f"workload.{word}" for word in workload))
    assert ended.returncode == 0, ended.stderr
    assert "0 failed" in ended.stdout or "failed" not in ended.stdout
