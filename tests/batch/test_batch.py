"""Files through the engine: what is written, bad lines, a run that is killed, the forms of input and output."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.classifiers import reference_logits
from tests.reference import mean_pooled_ids
from tests.served import EAGER_FLOAT32, ECHO, ROOT, environment, with_echo

WORDS = ("serve=batch", *EAGER_FLOAT32)
ECHOED = ("serve=batch", *ECHO)


@pytest.fixture
def batch(whole_run):
    """Answer a file."""

    def run(model, source, output, *words):
        return whole_run(*WORDS, f"model.path={model}", f"serve.input={source}", f"serve.output={output}", *words)

    return run


@pytest.fixture
def echo(echo_run, tiny):
    """The same where only the files matter."""

    def run(source, output, *words):
        return echo_run(*ECHOED, f"model.path={tiny}", f"serve.input={source}", f"serve.output={output}", *words)

    return run


def rows_of(count):
    return [[2, *(5 + (number * index) % 40 for index in range(1, 2 + number % 30)), 3] for number in range(count)]


def write(file, values):
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


def test_every_line_is_answered_in_order_and_bad_ones_by_number(tiny, tmp_path, batch):
    rows = rows_of(20)
    values = [{"id": f"row {number}", "input": row} for number, row in enumerate(rows)]
    source = write(tmp_path / "in.jsonl", values[:10])
    with source.open("a") as stream:
        stream.write('{"id": "broken", "input": \n\n[1, 2]\n{"id": 7}\n{"id": "far", "input": [9999]}\n')
        stream.write(json.dumps({"id": "long", "input": [5] * 500}) + "\n")
        stream.write("".join(json.dumps(value) + "\n" for value in values[10:]))
    ended = batch(tiny, source, tmp_path / "out.jsonl", "serve.chunk_lines=3")
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["id"] for one in found] == [value["id"] for value in values]
    assert [one["line"] for one in found] == [*range(1, 11), *range(17, 27)]
    assert np.allclose([one["embedding"] for one in found], mean_pooled_ids(tiny, rows), atol=1e-5)
    bad = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    assert [one["line"] for one in bad] == [11, 13, 14, 15, 16]
    words = ["not JSON", "neither an object", "nothing that a route", "the vocabulary ends at", "500 tokens"]
    for one, words_of_one in zip(bad, words, strict=True):
        assert words_of_one in one["error"]
    out = tmp_path / "out.jsonl"
    assert f"{out}: 25 lines, 5 of them bad (see {out}.errors.jsonl); " in ended.stdout


def test_a_killed_run_goes_on_with_nothing_lost_or_doubled(tiny, tmp_path, echo):
    values = [{"text": "hello world " * (1 + number % 7)} for number in range(4000)]
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    words = [*ECHOED, f"model.path={tiny}", f"serve.input={source}", f"serve.output={output}", "serve.chunk_lines=20"]
    kills = 0
    for kind in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None):
        process = subprocess.Popen(
            [sys.executable, "-m", "sendnn_pipeline", *words, "engine.step_ms=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment(**with_echo()),
        )
        size = output.stat().st_size if output.exists() else 0
        while kind is not None and process.poll() is None:
            if output.exists() and output.stat().st_size > size + 10_000:
                process.send_signal(kind)
                kills += 1
                break
            time.sleep(0.002)
        printed, _ = process.communicate(timeout=120)
        if kind == signal.SIGTERM:
            assert process.returncode == 1 and "stopped; run the same command again to go on" in printed
        if kind == signal.SIGINT:
            assert process.returncode == 130 and printed.endswith("to go on\ninterrupted\n")
    assert process.returncode == 0, printed
    assert kills == 3 and "going on at line" in printed
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [one["line"] for one in found] == list(range(1, 4001))
    assert [one["echo"] for one in found] == [[value["text"].strip()] for value in values]
    again = echo(source, output)
    assert "is whole already" in again.stdout and "load …" not in again.stdout and again.returncode == 0


def test_other_work_is_not_mixed_into_a_file(tmp_path, echo):
    source, output = write(tmp_path / "in.jsonl", [{"text": "a b c"}]), tmp_path / "out.jsonl"
    assert echo(source, output).returncode == 0
    other = echo(source, output, "serve.truncate=true")
    assert other.returncode == 2 and "was begun with serve.truncate=False, and now it is True" in other.stderr
    assert echo(source, output, "serve.truncate=true", "serve.overwrite=true").returncode == 0
    old_name = echo(source, output, "serve.fresh=true")
    assert old_name.returncode == 0 and "serve.overwrite" in old_name.stdout
    (tmp_path / "mine.jsonl").write_text("precious")
    refused = echo(source, tmp_path / "mine.jsonl")
    assert refused.returncode == 2 and "nothing records how far it came" in refused.stderr
    assert (tmp_path / "mine.jsonl").read_text() == "precious"


def test_the_engine_s_own_options_are_part_of_the_work(tiny, tmp_path, batch, in_process):
    source, output = write(tmp_path / "in.jsonl", [{"text": "abc"}]), tmp_path / "out.jsonl"
    assert batch(tiny, source, output).returncode == 0
    words = [*WORDS, f"model.path={tiny}", f"serve.input={source}", f"serve.output={output}", "engine.pooling=cls"]
    other = in_process(*words)
    assert other.returncode == 2 and "was begun with pooling=mean" in other.stderr and "cls" in other.stderr


def test_an_engine_that_fails_is_one_line_and_what_was_written_stays(tmp_path, echo):
    source, output = write(tmp_path / "in.jsonl", ["a"] * 100), tmp_path / "out.jsonl"
    for stage, words in (("warmup", "error: the warmup fails"), ("step", "the step fails, as it was told to")):
        ended = echo(source, output, f"engine.fail={stage}")
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
        assert ended.returncode == 1 and words in line
    assert echo(source, output).returncode == 0
    assert len(output.read_text().splitlines()) == 100


def test_an_array_has_a_row_a_line(tiny, tmp_path, batch):
    rows = rows_of(30)
    source = write(tmp_path / "in.jsonl", [*rows[:3], {"bad": 1}, *({"input": row} for row in rows[3:])][3:])
    ended = batch(tiny, source, tmp_path / "out.npy")
    assert ended.returncode == 0, ended.stderr
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32 and np.isnan(found[0]).all()
    assert np.allclose(found[1:], mean_pooled_ids(tiny, rows[3:]), atol=1e-5)


def test_an_openai_batch_file(tiny, tmp_path, batch):
    asked = [
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": [[2, 9, 3], [2, 8, 3]]}},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {"input": "x"}},
        {"custom_id": "c", "body": {"input": [5] * 500, "encoding_format": None, "truncate_prompt_tokens": None}},
        {"text": None, "input": [2, 9, 3], "note": None},
    ]
    source = write(tmp_path / "in.jsonl", asked)
    assert batch(tiny, source, tmp_path / "out.jsonl", "serve.truncate=true").returncode == 0
    good, bad, unset, own = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert good["custom_id"] == "a" and good["response"]["status_code"] == 200 and good["error"] is None
    data = good["response"]["body"]["data"]
    assert np.allclose([row["embedding"] for row in data], mean_pooled_ids(tiny, [[2, 9, 3], [2, 8, 3]]), atol=1e-5)
    assert good["response"]["body"]["usage"]["prompt_tokens"] == 6
    assert bad["custom_id"] == "b" and bad["response"]["status_code"] == 404 and bad["error"] is None
    assert "/v1/embeddings" in bad["response"]["body"]["error"]["message"]
    assert unset["response"]["body"]["usage"]["prompt_tokens"] == 64, unset
    assert len(own["embedding"]) == 32 and own["note"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve.output=o.jsonl"], "serve.input is not set"),
        (["serve.input=/nowhere", "serve.output=o.jsonl"], "cannot be read"),
        (["serve.input=README.md"], "serve.output is not set"),
        (["serve.input=README.md", "serve.output=o.xml"], "ends in none of .jsonl, .npy"),
        (["serve.input=README.md", "serve.output=/proc/o.jsonl"], "cannot be written"),
    ],
)
def test_files_that_cannot_be_had_are_one_line_before_anything_is_loaded(tiny, words, message, in_process):
    ended = in_process(*WORDS, f"model.path={tiny}", *words)
    assert ended.returncode == 2 and message in ended.stderr and "load" not in ended.stdout


def test_rankings_and_scores_by_the_line(cross_encoder, tmp_path, batch):
    query, documents = "what is a name?", ["names refer to objects", "dogs", "a name is bound"]
    scores = 1 / (1 + np.exp(-reference_logits(cross_encoder, [(query, document) for document in documents])[:, 0]))
    asked = {"query": query, "documents": documents}
    values = [
        {"id": 1, **asked},
        {"custom_id": "s", "url": "/v1/score", "body": {"text_1": query, "text_2": documents}},
        {"custom_id": "r", "url": "/v1/rerank", "body": asked},
        {"custom_id": "x", "url": "/v1/poems", "body": asked},
        {"custom_id": "e", "url": "/v1/rerank", "body": {"query": query, "documents": []}},
        {"id": 2, "query": query, "documents": ["dogs " * 200]},
        {"id": 3, "text": "alone"},
        {"id": 4, **asked, "use_activation": False, "truncate_prompt_tokens": -1},
        {"id": 5, **asked, "model": "gpt"},
        {"custom_id": "n", "url": None, "body": {"input": "x"}},
        {"id": 6, **asked, "input": "alone"},
        {"id": 7, "text": "alone", "input": "alone", "line": "of the user's own"},
    ]
    source = write(tmp_path / "in.jsonl", values)
    ended = batch(cross_encoder, source, tmp_path / "out.jsonl")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answers = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    plain, scored, ranked, unknown, empty, alone, raw, default = answers
    assert plain["id"] == 1 and plain["query"] == query and np.allclose(plain["scores"], scores, atol=1e-5)
    body = scored["response"]["body"]
    assert np.allclose([row["score"] for row in body["data"]], scores, atol=1e-5) and body["usage"]["prompt_tokens"]
    assert [row["index"] for row in ranked["response"]["body"]["results"]] == np.argsort(-scores).tolist()
    refusals = [line["response"]["body"]["error"]["message"] for line in (unknown, empty)]
    assert "its url is '/v1/poems'" in refusals[0] and refusals[1] == "documents is empty"
    assert [line["response"]["status_code"] for line in (unknown, empty)] == [404, 400]
    assert alone["label"] == "LABEL_0" and len(alone["probs"]) == 1
    bad = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    assert [one["line"] for one in bad] == [4, 5, 6, 9, 10, 11, 12] and "with its query" in bad[2]["error"]
    assert np.allclose(raw["scores"], np.log(scores / (1 - scores)), atol=1e-4) and raw.keys() == plain.keys()
    assert bad[3]["error"].startswith("no model gpt")
    assert bad[5]["error"] == "it has input and query with documents, and a line asks one thing: leave one out"
    assert bad[6]["error"].startswith("it has text and input, ")
    assert "/v1/embeddings needs" in default["response"]["body"]["error"]["message"]


def test_labels_by_the_line_and_as_an_array(classifier, tmp_path, batch):
    texts = ["a class is a type", "objects have methods", "nothing"]
    powers = np.exp(reference_logits(classifier, texts))
    expected = powers / powers.sum(axis=1, keepdims=True)
    source = write(tmp_path / "in.jsonl", texts)
    for name in ("out.jsonl", "out.npy"):
        ended = batch(classifier, source, tmp_path / name)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert np.allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert np.allclose([one["probs"] for one in found], expected, atol=1e-5)
    assert [one["label"] for one in found] == [["no", "yes", "maybe"][row.argmax()] for row in expected]
