"""The bench: its requests, its figures, and whole benches of a tiny model."""

import asyncio
import json
import re
import time

import numpy as np
import pytest

from sendnn_pipeline.bench.comparison import figures_of, label_of, mark_pareto, swept_of, title_of
from sendnn_pipeline.bench.load import Ask, Parts, Received, Sample, drive
from sendnn_pipeline.bench.report import summarise
from sendnn_pipeline.bench.requests import draw_requests, make_items
from sendnn_pipeline.config.serving import GoodputConfig, WorkloadConfig
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.messages import StepDone
from tests.served import EAGER_FLOAT32, ECHO, sendnn

WORDS = ("serve=bench", *EAGER_FLOAT32, "workload.num_requests=12", "workload.texts_per_request=3")
CORPUS_TOKENS = 8000


def draw(**changed):
    return draw_requests(WorkloadConfig(**changed), 256, CORPUS_TOKENS, 2)


def lengths_of(draws):
    """Tokens of every text, the two special ones included."""
    return [end - start + 2 for one in draws for start, end in one.spans]


def test_requests_are_the_same_for_the_same_seed_and_have_the_workload_s_lengths(tmp_path):
    assert draw() == draw() != draw(seed=1)
    lengths = lengths_of(draw(num_requests=500))
    assert len(lengths) == 4000 and min(lengths) >= 5 and max(lengths) <= 256
    assert abs(np.median(lengths) - 45) < 3
    assert set(lengths_of(draw(lengths="uniform", min_tokens=10, max_tokens=20, num_requests=200))) == set(
        range(10, 21)
    )
    trace = tmp_path / "trace"
    trace.write_text("7\n7\n90\n")
    assert set(lengths_of(draw(lengths="trace", trace=str(trace)))) == {7, 90}
    assert all(0 <= start < end <= CORPUS_TOKENS for one in draw() for start, end in (*one.spans, one.query))
    assert {end - start for one in draw(query_tokens=9) for start, end in [one.query]} == {9}


def test_items_are_the_drawn_tokens_as_ids_and_as_texts(tiny):
    tokenizer = load_tokenizer(tiny)
    (corpus,) = asyncio.run(tokenizer.encode(["the world is a b c d " * 80], None, special=False))
    draws = draw_requests(WorkloadConfig(num_requests=6, texts_per_request=3), 40, len(corpus), tokenizer.num_special)
    items = asyncio.run(make_items(draws, corpus, tokenizer))
    for one, item in zip(draws, items, strict=True):
        assert [list(ids) for ids in item.token_ids] == [[2, *corpus[start:end], 3] for start, end in one.spans]
        encoded = asyncio.run(tokenizer.encode(list(item.texts), None))
        # Whole words here, so that they are the same tokens again.
        assert encoded == [list(ids) for ids in item.token_ids]
        assert len(item.query.split()) == WorkloadConfig().query_tokens


def test_an_open_loop_arrives_at_its_rate():
    times = [request.at for request in draw(rate=50.0, num_requests=2000)]
    assert times == sorted(times) and abs(times[-1] - 40) < 4
    assert {request.at for request in draw()} == {0.0}


def ask(num_items=1, at=0.0):
    return Ask({}, num_items, at)


def test_a_closed_loop_keeps_its_concurrency_and_an_open_one_does_not_wait():
    running = most = 0

    async def send(_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return Received(2, 0.0, 0.0)

    requests = [ask()] * 12
    assert len(asyncio.run(drive(send, requests, 4, open_loop=False))) == 12 and most == 4
    most = 0
    samples = asyncio.run(drive(send, requests, 4, open_loop=True))
    assert most == 12 and all(sample.latency_seconds >= 0.02 for sample in samples)


def test_a_request_that_fails_is_counted_not_lost():
    async def send(request):
        if request.num_items == 2:
            raise ValueError("no")
        return Received(2, 0.0, 0.0)

    requests = [ask(), ask(num_items=2)]
    figures = summarise([(asyncio.run(drive(send, requests, 1, False)), [])], GoodputConfig())
    assert (figures["num_requests"], figures["num_failed"]) == (2, 1) and figures["errors"] == ["ValueError: no"]


def step(real, computed, items, rows):
    return StepDone("pool[batch=4,len=8]", items, rows, real, computed, 1.0, 1.5, 0, 0)


def test_figures_against_numpy():
    latencies = np.random.default_rng(0).uniform(0.01, 1, 200)
    samples = [Sample(10.0, [10.0 + taken], 2, 30) for taken in latencies]
    figures = summarise([(samples, [step(20, 32, 3, 4), step(30, 32, 4, 4)])], GoodputConfig())
    assert figures["latency_ms"]["p99"] == pytest.approx(np.percentile(latencies, 99) * 1000)
    assert figures["texts_per_second"]["median"] == pytest.approx(400 / latencies.max())
    assert figures["padding"] == pytest.approx(1 - 50 / 64) and figures["fill"] == pytest.approx(7 / 8)
    assert figures["programs"]["pool[batch=4,len=8]"]["busy_ms"] == pytest.approx(1000)
    assert "ttft_ms" not in figures and "output_tokens_per_second" not in figures


def test_parts_of_several_texts_are_told_apart():
    # Two texts of three tokens each, whose parts come in turns; of the second one, two tokens came as one part.
    sample = Sample(0.0, [0.5, 0.6, 0.7, 0.9, 1.0], 2, 10, choices=[0, 1, 0, 0, 1], num_output_tokens=6)
    figures = summarise([([sample] * 3, [])], GoodputConfig())
    assert figures["ttft_ms"]["p50"] == pytest.approx(550) and figures["latency_ms"]["p50"] == pytest.approx(1000)
    assert figures["itl_ms"]["p50"] == pytest.approx(200) and figures["itl_ms"]["p99"] == pytest.approx(400)
    assert figures["tpot_ms"]["p50"] == pytest.approx(200)
    assert figures["requests_per_second"]["median"] == pytest.approx(3)
    assert figures["output_tokens_per_second"]["median"] == pytest.approx(18)


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ({"ttft_ms": 550}, 1),
        ({"ttft_ms": 620}, 2),
        ({"tpot_ms": 190}, 0),
        ({"tpot_ms": 210}, 1),
        ({"latency_ms": 999}, 0),
        ({"latency_ms": 1000, "ttft_ms": 550}, 1),
        ({"latency_ms": 1000, "tpot_ms": 260}, 2),
    ],
)
def test_goodput_counts_requests_that_stay_below_every_limit(limits, good):
    two_texts = Sample(0.0, [0.5, 0.6, 0.7, 0.9, 1.0], 2, 10, choices=[0, 1, 0, 0, 1], num_output_tokens=6)
    one_text = Sample(0.0, [0.5, 0.9, 1.0], 1, 10, choices=[0, 0, 0], num_output_tokens=3)
    failed = Sample(0.0, [0.1], 1, 0, error="no")
    figures = summarise([([two_texts, one_text, failed], [])], GoodputConfig(**limits))
    # All of them were answered within a second.
    assert figures["good_requests_per_second"]["median"] == pytest.approx(good)


def test_the_pareto_front_is_what_nothing_beats():
    chooser = np.random.default_rng(0)
    names = ("tokens_per_second", "cold_compile_seconds", "padding_share", "p99_ms")
    rows = [figures_of(None) | dict(zip(names, chooser.integers(1, 6, 4).tolist(), strict=True)) for _ in range(40)]
    mark_pareto(rows)
    costs = np.array([[-row["tokens_per_second"], *(row[name] for name in names[1:])] for row in rows])
    for row, cost in zip(rows, costs, strict=True):
        beaten = ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any()
        assert row["pareto"] == (not beaten)


def test_a_row_whose_texts_were_cut_is_on_no_front():
    figures = {"tokens_per_second": 900, "cold_compile_seconds": 1.0, "padding_share": 0.1, "p99_ms": 1.0}
    whole = figures_of(None) | figures | {"tokens_per_second": 100, "cut_share": 0.0}
    cut = figures_of(None) | figures | {"cut_share": 0.25}
    mark_pareto([whole, cut])
    assert whole["pareto"] and not cut["pareto"]
    # Where no shape takes all of them, those that cut as few as any did the same work.
    mark_pareto([cut, alike := {**cut, "tokens_per_second": 100}])
    assert cut["pareto"] and not alike["pareto"]


def test_texts_that_the_workload_has_longer_are_counted(tiny, tmp_path, whole_run):
    trace = tmp_path / "trace"
    trace.write_text("300\n10\n")
    draws = draw(lengths="trace", trace=str(trace), num_requests=40)
    texts = [length for one in draws for length in lengths_of([one])]
    assert sum(one.num_cut for one in draws) == texts.count(256) > 0 and texts.count(10) > 0
    assert not any(one.num_cut for one in draw())
    words = (*WORDS, f"model.path={tiny}", f"serve.output={tmp_path}", "serve.rounds=1", "warmup.shapes=[16x4]")
    ended = whole_run(*words, "workload=trace", f"workload.trace={trace}")
    assert ended.returncode == 0, ended.stderr
    cut = json.loads((tmp_path / "bench.json").read_text())["figures"]["cut"]
    assert 0 < cut < 1 and f"cut: {cut:.1%} of the texts" in ended.stdout
    assert "texts are cut to 16 tokens" in ended.stdout


def test_the_usage_of_a_stream_is_no_part_of_it():
    parts = Parts()
    for event in ({"token": "a"}, "text", {"choices": [{"index": 1}], "usage": {"prompt_tokens": 3}}):
        parts.take(event)
    parts.take({"choices": [{"index": 0}], "usage": None})
    parts.take({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    parts.take({"usage": {"prompt_tokens": 3}})
    assert len(parts.times) == 4 and parts.choices == [0, 0, 1, 0] and parts.num_tokens == 3


def test_labels_say_what_differs():
    jobs = [["a=1", "b=1", "c=[x=1]"], ["a=1", "b=2", "c=y"]]
    assert swept_of(jobs) == [{"b": "1", "c": "[x=1]"}, {"b": "2", "c": "y"}] and swept_of([["a=1"]]) == [{}]
    assert label_of({"b": "1", "c": "y"}, ["a=1"]) == "b=1 c=y" and label_of({}, ["a=1"]) == "a=1"
    assert label_of({}, []) == "defaults"


def result_of(**changed):
    workload = {"name": "lognormal", "num_requests": 64, "texts_per_request": 8, "concurrency": 16, "rate": None}
    about = {"model": "m", "backend": "eager", "dtype": "float32", "transport": "engine", "machine": "a CPU"}
    return about | {"workload": workload, "date": "2026-01-31"} | changed


def test_the_title_says_what_all_jobs_share():
    whole = (
        "m, eager, float32, workload=lognormal: 64 requests, 8 texts each, 16 clients, over engine, a CPU, 2026-01-31"
    )
    assert title_of([result_of()]) == whole and title_of([]) == ""
    other = result_of(backend="inductor", workload=result_of()["workload"] | {"rate": 20.0})
    assert title_of([result_of(), other]) == whole.replace("eager, ", "").replace("16 clients, ", "")


@pytest.mark.parametrize("transport", ["engine", "http"])
def test_a_bench_prints_and_writes_its_figures(tiny, tmp_path, transport, whole_run):
    words = (*WORDS, f"model.path={tiny}", f"serve.output={tmp_path}", f"serve.transport={transport}", "serve.rounds=2")
    ended = whole_run(*words)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    figures = found["figures"]
    assert figures["num_requests"] == 24 and figures["num_failed"] == 0
    (program,) = figures["programs"].values()
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert program["texts"] == 72 and program["real_tokens"] == sum(sample["num_tokens"] for sample in samples)
    assert figures["latency_ms"]["p50"] > 0 and 0 <= figures["padding"] < 1
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "texts per second" in ended.stdout and ended.stdout.rstrip().endswith(str(tmp_path))
    assert set(found["startup_seconds"]) >= {"load", "compile", "warmup"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["serve.transport=pigeon"], ["serve.transport", "pigeon", "engine", "http"]),
        (["workload.rate=0"], ["workload.rate=0.0 must be", "> 0.0"]),
        (["workload=trace"], ["workload.lengths=trace needs a file"]),
        (["workload=trace", "workload.trace=/nowhere"], ["the trace /nowhere cannot be read"]),
        (["workload.min_tokens=9", "workload.max_tokens=8"], ["workload.max_tokens=8 is less"]),
        (["serve.rounds=0"], ["serve.rounds=0 must be", ">= 1"]),
        (["workload.images_per_request=1"], ["workload.images_per_request=1, and", "reads text alone"]),
        (["workload.images_per_request=99"], ["workload.images_per_request=99 is more than multimodal.max_images="]),
        (["workload.images_per_request=1", "workload.image_width=99999999"], ["more than multimodal.max_pixels="]),
        (["workload.goodput.tpot_ms=5"], ["workload.goodput.tpot_ms=5, and /v1/embeddings answers whole"]),
        (["workload.goodput.ttft_ms=0"], ["workload.goodput.ttft_ms=0.0 must be", "> 0.0"]),
        (["workload.task=sing"], ["workload.task", "sing", "texts", "rerank"]),
    ],
)
def test_what_cannot_be_benched_is_one_line(tiny, words, parts, in_process):
    ended = in_process(*WORDS, f"model.path={tiny}", *words)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and "load" not in ended.stdout
    assert all(part in ended.stderr for part in parts), ended.stderr


def test_a_workload_without_a_bench_is_noted_as_unused(tiny, echo_run):
    ended = echo_run(*ECHO, f"model.path={tiny}", "pipeline=precompile", "workload.seed=3")
    assert "workload.seed (set by workload.seed=3) is not used by this run: it belongs to serve=bench" in ended.stdout


def test_time_is_taken_from_when_a_request_was_due():
    async def slow(_):
        time.sleep(0.05)
        return Received(2, 0.0, 0.0)

    requests = [ask(), ask()]
    first, second = asyncio.run(drive(slow, requests, 1, open_loop=True))
    # The second waited for the first, which blocked the loop, and that counts.
    assert second.latency_seconds >= first.latency_seconds + 0.045 and first.latency_seconds >= 0.05


def test_a_cross_encoder_is_benched_with_rankings(cross_encoder, tmp_path, whole_run):
    words = [*WORDS, f"model.path={cross_encoder}", "workload.median=20", "serve.rounds=1", "workload.query_tokens=9"]
    for transport in ("engine", "http"):
        folder = tmp_path / transport
        ended = whole_run(*words, f"serve.transport={transport}", f"serve.output={folder}")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        samples = json.loads((folder / "samples.json").read_text())
        assert len(samples) == 12 and all(sample["num_items"] == 3 and not sample["error"] for sample in samples)
        # Every pair holds the query, at least one token of a document, and three special tokens.
        assert all(sample["num_tokens"] >= 3 * (5 + 1 + 3) for sample in samples)


def test_rankings_of_a_bi_encoder_are_asked_for(tiny, tmp_path, whole_run):
    words = [*WORDS, f"model.path={tiny}", "workload.task=rerank", "serve.rounds=1", f"serve.output={tmp_path}"]
    ended = whole_run(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    # Each of 12 requests is a query and three documents to the engine.
    assert sum(program["texts"] for program in figures["programs"].values()) == 12 * 4


def test_rankings_of_a_model_with_several_labels_are_refused_before_it_is_loaded(classifier, in_process):
    ended = in_process(*WORDS, f"model.path={classifier}", "workload.task=rerank")
    assert ended.returncode == 2 and "gives 3 labels, not one score; use workload.task=texts" in ended.stderr
    assert "load" not in ended.stdout


def test_the_plan_s_padding_is_about_what_a_bench_measures(tiny, tmp_path):
    words = (*EAGER_FLOAT32, f"model.path={tiny}", f"serve.output={tmp_path}", "serve.rounds=1", "process.num_cpus=2")
    ended = sendnn("serve=bench", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (expected,) = re.findall(r"; (\d+)% padding expected with 16 clients of 8 texts", ended.stdout)
    measured = json.loads((tmp_path / "bench.json").read_text())["figures"]["padding"]
    assert abs(int(expected) / 100 - measured) <= 0.1
