"""Pooling models on the emulated card, from Python and as a server: what they answer is what eager answers."""

import numpy as np
import pytest

from sendnn_pipeline import Embedder
from sendnn_pipeline.errors import BackendError, PipelineError
from tests.classifiers import make_classifier, reference_logits
from tests.emulators.install import install
from tests.served import EAGER_FLOAT32, Served

TEXTS = ["hello world", "the a of and to in is", "hello", "is the world in a, of the?", "to"]
SIZES = ("scheduler.chunk_size=128", "scheduler.max_num_seqs=4")
# Of float16, in which the card computes, against float32.
ATOL = 5e-3


@pytest.fixture
def word(card):
    """The words of a run in this process."""
    card.monkeypatch.setenv("SENDNN_INFERENCE_DYNAMO_BACKEND", "sendnn")
    return ("model=local", "process.override_signal_handlers=false", f"cache_dir={card.cache_dir}")


def test_vectors_are_those_of_eager_whatever_the_batch(tiny, card, word):
    with Embedder(*EAGER_FLOAT32, f"model.path={tiny}") as eager:
        expected = eager.embed(TEXTS)
    with Embedder(*word, f"model.path={tiny}", "warmup.shapes=[64x1,64x2,64x4]") as spyre:
        vectors, alone = spyre.embed(TEXTS), np.concatenate([spyre.embed(text) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=ATOL)
    np.testing.assert_allclose(alone, expected, atol=ATOL)
    assert card.device.compiled == 1 and len(card.device.deployed) == 3


def test_a_process_has_one_environment(tiny, card, word):
    with Embedder(*word, f"model.path={tiny}", "warmup.shapes=[64x1]"):
        pass
    other = Embedder(*word, f"model.path={tiny}", "warmup.shapes=[64x4]")
    with pytest.raises(BackendError, match="torch_sendnn is imported already, and VLLM_DT_MAX_BATCH_SIZE=4"):
        other.start()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_reranker_starts_without_a_length_and_ranks_as_transformers(kind, tmp_path, card, word):
    model = make_classifier(tmp_path, kind, 1)
    documents = [" ".join(TEXTS[index:]) for index in range(4)]
    with Embedder(*word, f"model.path={tmp_path}") as spyre:
        scores = spyre.score("hello", documents, use_activation=False)
    expected = reference_logits(model, [("hello", document) for document in documents])[:, 0]
    np.testing.assert_allclose(scores, expected, rtol=0.02, atol=0.02)
    assert list(np.argsort(scores)) == list(np.argsort(expected))


def test_a_server_drains_although_the_runtime_takes_signals(tiny, tmp_path):
    words = ("model=local", f"model.path={tiny}", "backend=auto", f"cache_dir={tmp_path}")
    with Served(*words, PYTHONPATH=install("torch_sendnn", tmp_path / "site")) as served:
        answer = served.post("/v1/embeddings", json={"input": TEXTS}).json()
        assert len(answer["data"]) == len(TEXTS)
        served.terminate()
        assert served.exit_code() == 0, served.output
    assert "backend  sendnn  (auto: torch_sendnn is importable)" in served.output
    assert "shapes   64x1  (auto: the default of backend=sendnn)" in served.output
    assert "FATAL SIGNAL" not in served.output


def test_a_server_generates(llama, tmp_path):
    words = ("model=local", f"model.path={llama}", "backend=sendnn", f"cache_dir={tmp_path}", *SIZES)
    with Served(*words, PYTHONPATH=install("torch_sendnn", tmp_path / "site")) as served:
        body = {"prompt": ["assert the", "if"], "max_tokens": 3, "temperature": 0}
        answer = served.post("/v1/completions", json=body).json()
        assert [choice["finish_reason"] for choice in answer["choices"]] == ["length", "length"]
        refused = served.post("/v1/completions", json={**body, "prompt_logprobs": 1})
        assert refused.status_code == 400 and "log probabilities of a prompt" in refused.text
        served.terminate()
        assert served.exit_code() == 0, served.output
    assert "FATAL SIGNAL" not in served.output


def test_what_cannot_run_is_said_before_anything_is_compiled(tiny, tmp_path, card):
    modern = make_classifier(tmp_path, "modernbert", 2)
    for words, says in (
        ((f"model.path={modern}",), "models of the type modernbert are not known to run on Spyre, and those of bert"),
        ((f"model.path={tiny}", "model.dtype=bfloat16"), "model.dtype=bfloat16 is not computed by sendnn"),
        ((f"model.path={tiny}", "warmup.shapes=[48x1]"), "48x1 in warmup is not a multiple of 64"),
        ((f"model.path={tiny}", "warmup.shapes=[64x1..4]"), "sendnn compiles fixed sizes only"),
        (
            (f"model.path={tiny}", "warmup.shapes=[64x9999]", "backend.card_memory_gib=0.3"),
            "does not hold weights 0.00 GiB, activations 0.50 GiB; beside the weights, not even 64 tokens",
        ),
        ((f"model.path={tiny}", "backend=sendnn_compile_only"), "serves nothing; add pipeline=precompile"),
    ):
        with pytest.raises(PipelineError, match=says):
            card.resolve(*words)
    assert card.resolve(f"model.path={modern}", "backend.any_architecture=true").run.model.model_type == "modernbert"


def test_what_is_compiled_for_another_machine_must_be_kept_somewhere(tiny, card, tmp_path):
    only = (f"model.path={tiny}", "backend=sendnn_compile_only", "pipeline=precompile")
    with pytest.raises(BackendError, match="keep nothing of what it compiles; set TORCH_SENDNN_CACHE_ENABLE=1"):
        card.resolve(*only, "artifacts.enabled=false")
    taken = tmp_path / "file"
    taken.write_text("")
    keeping = {"TORCH_SENDNN_CACHE_ENABLE": "1", "TORCH_SENDNN_CACHE_DIR": str(taken / "below")}
    with pytest.raises(BackendError, match=r"TORCH_SENDNN_CACHE_DIR=.* cannot be made"):
        card.resolve(*only, **keeping)
