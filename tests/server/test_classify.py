"""Labels and raw pooling over HTTP, against transformers' own output."""

import base64

import numpy as np
import pytest

from tests.classifiers import PROSE, reference_logits
from tests.served import EAGER_FLOAT32, FLOAT32

TEXTS = ["a class is a type", PROSE[2][:80], PROSE[5][:120]]


@pytest.fixture(scope="module")
def logits(classifier):
    return reference_logits(classifier, TEXTS)


def softmax(rows):
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("route", ["/classify", "/v1/classify"])
def test_labels_and_probabilities(served_classifier, logits, route):
    answer = served_classifier.post(route, json={"input": TEXTS}).json()
    assert np.allclose([row["probs"] for row in answer["data"]], softmax(logits), atol=1e-5)
    names = ["no", "yes", "maybe"]
    assert [row["label"] for row in answer["data"]] == [names[place] for place in logits.argmax(axis=1)]
    assert [row["num_classes"] for row in answer["data"]] == [3, 3, 3]
    raw = served_classifier.post(route, json={"input": TEXTS, "use_activation": False}).json()
    assert np.allclose([row["probs"] for row in raw["data"]], logits, atol=1e-5)


def test_one_text_token_ids_and_usage(served_classifier, logits):
    ids = served_classifier.post("/tokenize", json={"prompt": TEXTS[0]}).json()["tokens"]
    for given in (TEXTS[0], ids, [ids]):
        answer = served_classifier.post("/classify", json={"input": given}).json()
        assert np.allclose(answer["data"][0]["probs"], softmax(logits)[0], atol=1e-5)
        assert answer["usage"]["prompt_tokens"] == len(ids)


def test_pooling_gives_probabilities(served_classifier, logits):
    answer = served_classifier.post("/pooling", json={"input": TEXTS}).json()
    assert np.allclose([row["data"] for row in answer["data"]], softmax(logits), atol=1e-5)
    assert answer["data"][0]["object"] == "pooling"


def test_pooling_gives_vectors(served_minilm):
    coded = served_minilm.post(
        "/pooling", json={"input": "a text", "encoding_format": "base64", "task": "embed"}
    ).json()
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["data"]), dtype="<f4")
    (expected,) = served_minilm.client().embeddings.create(model="minilm", input="a text").data
    assert np.allclose(vector, expected.embedding, atol=1e-6)


def test_pooling_refuses_other_tasks(served_minilm):
    for task in ("classify", "token_embed", "poetry"):
        answer = served_minilm.post("/pooling", json={"input": "a", "task": task})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "unsupported_task", answer.text


def test_info_and_explain_say_what_the_model_gives(served_classifier, classifier, in_process):
    info = served_classifier.get("/info").json()
    assert info["model"]["task"] == "classify" and info["model"]["labels"] == ["no", "yes", "maybe"]
    assert info["model_type"]["classifier"]["id2label"] == {"0": "no", "1": "yes", "2": "maybe"}
    said = in_process("explain", "engine", *FLOAT32, f"model.path={classifier}", "engine.pooling=cls")
    task = said.stdout[said.stdout.index("engine.task = classify\n") :]
    assert "\n  from RobertaForSequenceClassification in config.json (model)\n" in task
    assert "engine.pooling = cls   [not used by this run: this run classifies]" in said.stdout


def test_a_task_that_the_model_has_no_head_for(tiny, in_process):
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "engine.task=classify")
    assert ended.returncode == 2
    assert "BertModel has no classification head (set by engine.task=classify); use engine.task=embed" in ended.stderr
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "engine.task=sing")
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert all(word in ended.stderr for word in ("engine.task", "sing", "auto", "embed", "classify"))
