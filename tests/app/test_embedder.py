"""The pooling engine from Python: what it gives, what it refuses, and what it leaves behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sendnn_pipeline import Embedder, Generator, RequestError
from sendnn_pipeline.errors import ArtifactError, ConfigError, EngineError, PipelineError
from sendnn_pipeline.pooling.core import PoolingCore
from tests.classifiers import reference_logits
from tests.reference import mean_pooled, mean_pooled_ids
from tests.served import EAGER_FLOAT32, ECHO, ECHO_FOLDER, FLOAT32, ROOT, environment

ROWS = [[2, 11, 3], list(range(2, 40)), [2, 12, 13, 3]]
QUERY, DOCUMENTS = "what is a name?", ["names refer to objects", "dogs", "a name is bound"]


def words_of(folder: Path) -> tuple[str, ...]:
    return (*EAGER_FLOAT32, "process.num_cpus=1", f"model.path={folder}")


@pytest.fixture(scope="module")
def embedder(tiny):
    with Embedder(*words_of(tiny)) as embedder:
        yield embedder


def left_behind() -> tuple[set[str], list[str]]:
    """Return the names of this process's threads, and what its descriptors are."""
    descriptors = []
    for name in Path("/proc/self/fd").iterdir():
        try:
            descriptors.append(str(name.readlink()))
        except FileNotFoundError:
            continue
    return {thread.name for thread in threading.enumerate()}, sorted(descriptors)


def test_vectors_equal_transformers_whatever_form_the_texts_have(embedder, tiny):
    texts = ["hello world", "a", "the world is a stage"]
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32 and np.allclose(vectors, mean_pooled(tiny, texts), atol=1e-5)
    assert np.allclose(embedder.embed(ROWS), mean_pooled_ids(tiny, ROWS), atol=1e-5)
    assert np.allclose(embedder.embed(ROWS[0]), mean_pooled_ids(tiny, ROWS[:1]), atol=1e-5)
    assert np.allclose(embedder.embed("hello world"), vectors[:1], atol=1e-6)
    assert np.allclose(embedder.embed(text for text in texts), vectors, atol=1e-6)


def test_they_equal_what_http_gives(embedder, served_tiny):
    answer = served_tiny.post("/v1/embeddings", json={"input": ROWS}).json()
    assert np.allclose(embedder.embed(ROWS), [row["embedding"] for row in answer["data"]], atol=1e-6)


def test_scores_of_vectors_and_options(embedder, tiny):
    query, *others = mean_pooled(tiny, ["a b", "hello", "the world " * 2])
    assert np.allclose(
        embedder.score("a b", ["hello", "the world " * 2]), [query @ other for other in others], atol=1e-5
    )
    long = "hello " * 200
    cut = embedder.embed(long, truncate_prompt_tokens=20)
    assert np.allclose(cut, mean_pooled(tiny, ["hello " * 18]), atol=1e-5)


def test_scores_of_pairs(cross_encoder):
    logits = reference_logits(cross_encoder, [(QUERY, document) for document in DOCUMENTS])[:, 0]
    with Embedder(*words_of(cross_encoder)) as embedder:
        scores = embedder.score(QUERY, DOCUMENTS)
        assert scores.dtype == np.float32 and np.allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)
        assert np.allclose(embedder.score(QUERY, DOCUMENTS, use_activation=False), logits, atol=1e-5)
        with pytest.raises(RequestError, match="labels or scores of pairs") as caught:
            embedder.embed("a text")
        assert caught.value.status == 400 and caught.value.code == "unsupported_task"


def test_labels(classifier):
    powers = np.exp(reference_logits(classifier, DOCUMENTS))
    expected = powers / powers.sum(axis=1, keepdims=True)
    with Embedder(*words_of(classifier)) as embedder:
        found = embedder.classify(DOCUMENTS)
        (one,) = embedder.classify(DOCUMENTS[0])
    assert np.allclose([row["probs"] for row in found], expected, atol=1e-5)
    assert [row["label"] for row in found] == [["no", "yes", "maybe"][row.argmax()] for row in expected]
    assert one["label"] == found[0]["label"]


@pytest.mark.parametrize(
    ("ask", "param", "words"),
    [
        (lambda e: e.embed(""), "input[0]", "is an empty string"),
        (lambda e: e.embed([]), "input", "is empty"),
        (lambda e: e.embed(["fine", "word " * 100]), "input[1]", "tokens"),
        (lambda e: e.embed([[5], [9999]]), "input[1]", "the vocabulary ends at"),
        (lambda e: e.embed(["a", 1]), "input", "mixes texts"),
        (lambda e: e.embed([1.5]), "input[0]", "got `float`"),
        (lambda e: e.embed("a", dimensions="eight"), "dimensions", "Expected `int | null`"),
        (lambda e: e.embed("a", dimensions=8), "dimensions", "is not trained for shorter vectors"),
        (lambda e: e.score("a", []), "documents", "is empty"),
        (lambda e: e.classify("a"), None, "gives embeddings"),
        (lambda e: e.embed("a", model="another"), "model", "no model another"),
    ],
)
def test_what_is_refused_names_the_field_and_the_next_call_is_answered(embedder, ask, param, words):
    with pytest.raises(RequestError) as caught:
        ask(embedder)
    assert words in caught.value.message and caught.value.param == param and caught.value.status in (400, 404)
    assert embedder.embed("still here").shape == (1, 32)


def test_an_option_that_there_is_not_is_not_passed_over(embedder):
    with pytest.raises(TypeError, match=r"/v1/embeddings has no field dimension; did you mean dimensions\?"):
        embedder.embed("a", dimension=8)


def test_calls_of_many_threads_at_once_each_get_their_own(embedder, tiny):
    rows = [[2, *range(5, 6 + number % 30), 3] for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: embedder.embed([row])[0], rows))
    assert np.allclose(found, mean_pooled_ids(tiny, rows), atol=1e-5)


def test_within_a_running_event_loop_as_in_a_notebook(tiny):
    async def cell():
        with Embedder(*words_of(tiny)) as embedder:
            return embedder.embed(ROWS), embedder.embed(ROWS[:1])

    all_rows, first = asyncio.run(cell())
    assert np.allclose(all_rows, mean_pooled_ids(tiny, ROWS), atol=1e-5) and np.allclose(first, all_rows[:1], atol=1e-6)


def test_without_a_block_it_starts_at_the_first_call_and_again_after_it_was_closed(tiny):
    one = Embedder(*words_of(tiny))
    first = one.embed(ROWS)
    one.close()
    one.close()
    assert np.array_equal(one.embed(ROWS), first)
    one.close()


def test_threads_that_are_first_at_once_start_one_engine(tiny, monkeypatch):
    opened = []
    monkeypatch.setattr(PoolingCore, "about", lambda core: opened.append(core) or {})
    one = Embedder(*words_of(tiny))
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda _: one.embed("a"), range(4)))
    one.close()
    assert len({id(core) for core in opened}) == 1 and all(np.array_equal(vector, vectors[0]) for vector in vectors)


def test_nothing_is_left_after_it_is_closed(tiny):
    def once():
        with Embedder(*words_of(tiny)) as embedder:
            embedder.embed(ROWS)
            names, _ = left_behind()
            assert {"sendnn-engine", "sendnn-rank-0"} <= names

    once()
    before = left_behind()
    once()
    assert left_behind() == before


def test_nothing_is_left_of_a_start_that_fails_and_it_says_why(tiny, tmp_path):
    words = (*FLOAT32, f"model.path={tiny}", "backend=inductor", f"artifacts.dir={tmp_path}", "artifacts.require=true")
    with pytest.raises(ArtifactError, match="no artifact of this Program yet"):
        Embedder(*words).start()
    before = left_behind()
    one = Embedder(*words)
    with pytest.raises(ArtifactError, match=r"pool\[.*pipeline=precompile"):
        one.embed("a")
    assert left_behind() == before
    with pytest.raises(ConfigError, match="did you mean inductor"):
        Embedder("backend=inductr").start()
    assert left_behind() == before


def test_an_engine_that_breaks_answers_what_waits_and_closing_says_so(tiny, monkeypatch):
    one = Embedder(*words_of(tiny))
    one.start()
    step = PoolingCore.step

    def broken(core):
        # A server of another test may idle in this process; it goes on.
        if core.run.config.model.path == str(tiny):
            raise RuntimeError("a bug")
        return step(core)

    monkeypatch.setattr(PoolingCore, "step", broken)
    with pytest.raises(RequestError, match="the engine failed: RuntimeError: a bug") as caught:
        one.embed("a")
    assert caught.value.status == 503
    with pytest.raises(EngineError, match="RuntimeError: a bug"):
        one.close()


def test_a_call_that_is_interrupted_leaves_the_queue(tiny, monkeypatch):
    """As Ctrl-C does in a notebook's cell."""
    monkeypatch.setattr(PoolingCore, "_compute", _slow(PoolingCore._compute))
    with Embedder(*words_of(tiny), "warmup.shapes=[16x1]") as embedder:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            embedder.embed([[2, 3]] * 200)
        assert embedder.embed([[2, 3]]).shape == (1, 32)
        # Two hundred steps would have taken ten seconds.
        assert time.monotonic() - began < 5


def _slow(compute):
    def slow(core, batch):
        time.sleep(0.05)
        return compute(core, batch)

    return slow


SCRIPT = """
import sys
from sendnn_pipeline import Embedder
print(Embedder(*sys.argv[1:]).embed("a").shape)
"""


def test_a_program_that_never_closes_it_ends(tiny):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, *words_of(tiny)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "(1, 32)\n", "")


def test_verbose_shows_the_plan_and_quiet_shows_nothing(tiny, capsys):
    with Embedder(*words_of(tiny)):
        pass
    assert capsys.readouterr().out == ""
    with Embedder(*words_of(tiny), verbose=True):
        pass
    assert "backend  eager" in (printed := capsys.readouterr().out) and "warmup done" in printed


def test_a_run_that_cannot_start_says_why_and_can_be_tried_again(tiny, tmp_path):
    lacking = shutil.copytree(tiny, tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, lacking / "model.safetensors", metadata={"format": "pt"})
    for wrong, message in (
        (words_of(lacking), "lacks 1 tensor"),
        (words_of(tmp_path / "nowhere"), "is not a folder"),
        ((*words_of(tiny), "serve.prt=1"), "did you mean serve.port"),
        ((*words_of(tiny), "warmup.shapes=[999x1]"), "longer than the model's 64 tokens"),
        ((*words_of(tiny), "backend=sendnn", "model.dtype=float16", "warmup.shapes=[64x1]"), "torch_sendnn"),
    ):
        embedder = Embedder(*wrong)
        for _ in range(2):
            with pytest.raises(PipelineError, match=message):
                embedder.start()


def test_an_engine_without_such_routes_says_so(tiny, monkeypatch):
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    monkeypatch.setenv("PYTHONPATH", str(ECHO_FOLDER))
    for door, route in ((Embedder, "/v1/embeddings"), (Generator, "/v1/completions")):
        with pytest.raises(
            ConfigError, match=rf"asks for {route}, which engine=echo of .* has not; it answers /v1/echo"
        ):
            door(*ECHO, f"model.path={tiny}").start()
    with pytest.raises(ConfigError, match=r"which engine=pooling of .* has not; use Embedder$"):
        Generator(*words_of(tiny)).start()
