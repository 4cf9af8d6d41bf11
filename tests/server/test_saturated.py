"""Orders where scores saturate: large logits have one sigmoid in float32, and still an order."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sendnn_pipeline import Embedder
from tests.classifiers import make_classifier, reference_logits
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere

DOCUMENTS = ["a primary followed by a name", "x", "in the world", "names and attributes", "to be evaluated", "objects"]
QUERY = "what is an attribute reference?"


def saturated(folder, num_labels):
    """Make a classifier whose logits are all far above 20, a few apart."""
    make_classifier(folder, "bert", num_labels)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["classifier.weight"] *= 3
    tensors["classifier.bias"] += 60
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_rankings_follow_the_logits(tmp_path):
    saturated(tmp_path, 1)
    logits = reference_logits(tmp_path, [(QUERY, document) for document in DOCUMENTS])[:, 0]
    scores = 1 / (1 + np.exp(-logits.astype(np.float32)))
    assert len(set(logits)) == len(logits) and len(set(scores.tolist())) < len(logits), "they have to be equal"
    best = np.argsort(-logits).tolist()
    assert best != np.argsort(-scores, kind="stable").tolist()
    with ServedHere(*EAGER_FLOAT32, f"model.path={tmp_path}") as served:
        body = {"query": QUERY, "documents": DOCUMENTS}
        for route in ("/rerank", "/v1/rerank", "/v2/rerank"):
            rows = served.post(route, json=body).json()["results"]
            assert [row["index"] for row in rows] == best, route
            top = served.post(route, json=body | {"top_n": 2}).json()["results"]
            assert [row["index"] for row in top] == best[:2], route
        rows = served.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS}).json()
        assert [row["index"] for row in rows] == best


def test_the_likeliest_label_follows_the_logits(tmp_path):
    saturated(tmp_path, 3)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    logits = reference_logits(tmp_path, DOCUMENTS)
    best = logits.argmax(axis=1).tolist()
    assert set(best) != {0}
    with Embedder(*EAGER_FLOAT32, f"model.path={tmp_path}") as ours:
        found = ours.classify(DOCUMENTS)
    assert [row["label"] for row in found] == [f"LABEL_{index}" for index in best]
    assert any(row["probs"][0] == max(row["probs"]) and index for row, index in zip(found, best, strict=True))


def test_a_model_that_generates_ranks_nothing(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    (tmp_path / "modules.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen3ForCausalLM"]}))
    from sendnn_pipeline import RequestError

    with Embedder(*EAGER_FLOAT32, f"model.path={tmp_path}", "engine=pooling") as ours:
        assert ours.embed(["hello"]).shape == (1, 32)
        with pytest.raises(RequestError, match="generates text"):
            ours.score("a", ["b"])
