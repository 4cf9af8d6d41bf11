"""Requests as text-embeddings-inference's clients send them, traps included."""

import json
import shutil

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests.classifiers import reference_logits
from tests.reference import mean_pooled
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere

TEXTS = ["a first text", "and a second one", "dogs bark"]


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def test_embed(served_minilm, minilm):
    expected = mean_pooled(minilm, TEXTS)
    assert np.allclose(served_minilm.post("/embed", json={"inputs": TEXTS}).json(), expected, atol=1e-5)
    alone = served_minilm.post("/embed", json={"inputs": TEXTS[0]}).json()
    assert np.allclose(alone, expected[:1], atol=1e-5)


def test_vectors_as_long_as_they_are(served_minilm, minilm):
    model = SentenceTransformer(str(minilm), device="cpu")
    # The library's own modules without the last, which scales.
    expected = SentenceTransformer(modules=list(model)[:-1], device="cpu").encode(TEXTS)
    found = np.array(served_minilm.post("/embed", json={"inputs": TEXTS, "normalize": False}).json())
    assert np.allclose(found, expected, atol=1e-5) and not np.allclose(np.linalg.norm(found, axis=1), 1, atol=0.1)
    unit = served_minilm.post("/embed", json={"inputs": TEXTS, "normalize": None}).json()
    assert np.allclose(unit, model.encode(TEXTS), atol=1e-5)


def test_truncation_has_a_side(served_minilm, minilm):
    long = " ".join(f"number {number}" for number in range(300))
    refused = served_minilm.post("/embed", json={"inputs": [long], "truncate": False})
    assert refused.status_code == 413 and refused.json()["error_type"] == "Validation"
    ids = served_minilm.post("/tokenize", json={"prompt": long, "add_special_tokens": False}).json()["tokens"]
    for direction, kept in (("Right", ids[:254]), ("Left", ids[-254:])):
        body = {"inputs": [long], "truncate": True, "truncation_direction": direction}
        (cut,) = served_minilm.post("/embed", json=body).json()
        (same,) = served_minilm.post("/v1/embeddings", json={"input": [[101, *kept, 102]]}).json()["data"]
        assert np.allclose(cut, same["embedding"], atol=1e-6), direction


def test_similarity(served_minilm, minilm):
    query, *others = mean_pooled(minilm, TEXTS)
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}
    assert np.allclose(
        served_minilm.post("/similarity", json=body).json(), [query @ other for other in others], atol=1e-5
    )


def test_predict_takes_a_flat_list_of_two_for_one_pair(served_cross_encoder, cross_encoder):
    logits = reference_logits(cross_encoder, [(TEXTS[0], TEXTS[1]), TEXTS[2]])[:, 0]
    scores = 1 / (1 + np.exp(-logits))

    def predict(inputs, **more):
        return served_cross_encoder.post("/predict", json={"inputs": inputs, **more}).json()

    (pair,) = predict(TEXTS[:2])
    assert pair["label"] == "LABEL_0" and pair["score"] == pytest.approx(scores[0], abs=1e-5)
    batch = predict([TEXTS[:2], [TEXTS[2]]])
    assert [rows[0]["score"] for rows in batch] == pytest.approx(scores.tolist(), abs=1e-5)
    raw = predict([TEXTS[:2], [TEXTS[2]]], raw_scores=True)
    assert [rows[0]["score"] for rows in raw] == pytest.approx(logits.tolist(), abs=1e-5)
    assert predict([TEXTS[2]])[0]["score"] == pytest.approx(scores[1], abs=1e-5)


LONG = "word " * 600
COMPARED = {"inputs": {"source_sentence": LONG, "sentences": ["a"]}, "parameters": {"truncate": False}}


@pytest.mark.parametrize(
    ("served", "route", "body", "name"),
    [
        ("served_minilm", "/similarity", COMPARED, "source_sentence has"),
        ("served_cross_encoder", "/predict", {"inputs": [["a"], ["b", "c"], ["d"], ["e", ""]]}, "inputs[3] is"),
        ("served_cross_encoder", "/predict", {"inputs": [["b", "c"], ["a"], ["d", "c"], [""]]}, "inputs[3] is"),
        ("served_cross_encoder", "/predict", {"inputs": ["a", ""]}, "inputs is"),
        ("served_cross_encoder", "/predict", {"inputs": [["b", "c"], [LONG]], "truncate": False}, "inputs[1] has"),
    ],
)
def test_an_error_names_the_text_as_the_client_sent_it(request, served, route, body, name):
    answer = request.getfixturevalue(served).post(route, json=body)
    assert answer.status_code >= 400 and answer.json()["error"].startswith(name), answer.text


def test_predict_lists_every_label_the_likeliest_first(served_classifier, classifier):
    probabilities = softmax(reference_logits(classifier, TEXTS[:1])[0])
    rows = served_classifier.post("/predict", json={"inputs": TEXTS[0]}).json()
    order = np.argsort(-probabilities)
    assert [row["label"] for row in rows] == [["no", "yes", "maybe"][place] for place in order]
    assert [row["score"] for row in rows] == pytest.approx(probabilities[order].tolist(), abs=1e-5)


@pytest.mark.parametrize("inputs", [[], ["a", "b", "c"], [["a", "b", "c"]], [[]], ["a", ["b"]]])
def test_predict_refuses_other_forms(served_cross_encoder, inputs):
    answer = served_cross_encoder.post("/predict", json={"inputs": inputs})
    assert answer.status_code == 422 and answer.json()["error_type"] == "Validation", answer.text


def test_rerank_with_texts_is_theirs(served_cross_encoder, cross_encoder):
    logits = reference_logits(cross_encoder, [(TEXTS[0], text) for text in TEXTS])[:, 0]
    best = np.argsort(-logits)
    body = {"query": TEXTS[0], "texts": TEXTS}
    rows = served_cross_encoder.post("/rerank", json=body).json()
    assert [row["index"] for row in rows] == best.tolist() and rows[0].keys() == {"index", "score"}
    assert [row["score"] for row in rows] == pytest.approx((1 / (1 + np.exp(-logits[best]))).tolist(), abs=1e-5)
    raw = served_cross_encoder.post("/rerank", json=body | {"raw_scores": True, "return_text": True}).json()
    assert [row["score"] for row in raw] == pytest.approx(logits[best].tolist(), abs=1e-5)
    assert [row["text"] for row in raw] == [TEXTS[place] for place in best]


BAD = [
    ("served_minilm", "/embed", {"inputs": []}, 400, "Empty"),
    ("served_minilm", "/embed", {"inputs": ""}, 400, "Empty"),
    ("served_minilm", "/embed", {"inputs": 3}, 422, "Validation"),
    ("served_minilm", "/embed", {"inputs": ["a"] * 2049}, 413, "Validation"),
    ("served_minilm", "/embed", {"inputs": "a", "prompt_name": "query"}, 422, "Validation"),
    ("served_minilm", "/predict", {"inputs": "a"}, 424, "Backend"),
    ("served_minilm", "/embed_all", {"inputs": "a", "truncate": None}, 424, "Backend"),
    ("served_minilm", "/embed_all", {"inputs": 3}, 422, "Validation"),
    ("served_minilm", "/rerank", {"query": "a", "texts": []}, 400, "Empty"),
    ("served_cross_encoder", "/embed", {"inputs": "a"}, 424, "Backend"),
    ("served_cross_encoder", "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, 424, "Backend"),
    ("served_classifier", "/rerank", {"query": "a", "texts": ["b"]}, 424, "Backend"),
]


@pytest.mark.parametrize("served", ["served_minilm", "served_cross_encoder", "served_classifier"])
def test_errors_are_in_their_form(request, served):
    for _, route, body, status, kind in [case for case in BAD if case[0] == served]:
        answer = request.getfixturevalue(served).post(route, json=body)
        assert (answer.status_code, answer.json()["error_type"]) == (status, kind), (route, body, answer.text)
        assert answer.json().keys() == {"error", "error_type"}


def test_tokens_with_their_places(served_minilm, minilm):
    texts = ["héllo, wörld", "dogs"]
    library = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    rows = served_minilm.post("/tokenize", json={"inputs": texts}).json()
    for text, row in zip(texts, rows, strict=True):
        library.no_padding()
        assert [token["id"] for token in row] == library.encode(text).ids
        assert [token["special"] for token in row] == [True, *[False] * (len(row) - 2), True]
        assert row[0] == {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None}
        for token in row[1:-1]:
            assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]
    (bare,) = served_minilm.post("/tokenize", json={"inputs": "dogs", "add_special_tokens": False}).json()
    assert [token["text"] for token in bare] == ["dogs"]
    refused = served_minilm.post("/tokenize", json={"inputs": []})
    assert refused.status_code == 400 and refused.json()["error_type"] == "Empty"


def test_decode_is_the_way_back(served_minilm):
    ids = served_minilm.post("/tokenize", json={"prompt": "hello world"}).json()["tokens"]
    assert served_minilm.post("/decode", json={"ids": ids}).json() == ["hello world"]
    assert served_minilm.post("/decode", json={"ids": [ids, ids[1:2]]}).json() == ["hello world", "hello"]
    whole = served_minilm.post("/decode", json={"ids": ids, "skip_special_tokens": False}).json()
    assert whole == ["[CLS] hello world [SEP]"]
    for body in ({"ids": []}, {"ids": [1, [2]]}, {"ids": [10**9]}):
        assert served_minilm.post("/decode", json=body).json().keys() == {"error", "error_type"}


@pytest.mark.parametrize(("words", "status"), [((), 200), (("engine.auto_truncate=false",), 413)])
def test_long_texts_are_cut_by_default_as_by_their_server(tiny, words, status):
    with ServedHere(*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[48x4]", *words) as served:
        assert served.get("/info").json()["auto_truncate"] is (status == 200)
        long = "hello " * 100
        for truncate, expected in ((None, status), (True, 200), (False, 413)):
            for route, body in (
                ("/embed", {"inputs": long}),
                ("/similarity", {"inputs": {"source_sentence": "a", "sentences": [long]}}),
                ("/rerank", {"query": "a", "texts": [long]}),
            ):
                cut = {"parameters": {"truncate": truncate}} if route == "/similarity" else {"truncate": truncate}
                assert served.post(route, json=body | cut).status_code == expected, (route, truncate)
        # OpenAI's route refuses what its clients do not ask to be cut.
        assert served.post("/v1/embeddings", json={"input": long}).status_code == 400


def test_info_has_their_names(served_minilm):
    info = served_minilm.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}} and info["max_input_length"] == 256
    assert info["model_dtype"] == "float32" and info["max_client_batch_size"] == 2048 and info["version"]


def test_info_names_a_cross_encoder(served_cross_encoder):
    assert "reranker" in served_cross_encoder.get("/info").json()["model_type"]


def test_prompts(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    said = {"prompts": {"query": "to a ", "plain": ""}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(said))
    with ServedHere(*EAGER_FLOAT32, f"model.path={tmp_path}", "warmup.shapes=[48x4]") as served:

        def embed(text, **more):
            return served.post("/embed", json={"inputs": text, **more}).json()[0]

        assert np.allclose(embed("world"), embed("to a world", prompt_name="plain"), atol=1e-6)
        assert np.allclose(embed("world", prompt_name="query"), embed("world"), atol=1e-6)
        assert not np.allclose(embed("world", prompt_name="plain"), embed("world"), atol=1e-3)
