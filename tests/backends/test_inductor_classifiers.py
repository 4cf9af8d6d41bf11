"""Classifiers compiled by inductor, opened from their artifacts, against transformers' own output."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sendnn_pipeline import Embedder
from tests.classifiers import PROSE, make_classifier, reference_logits
from tests.served import FLOAT32

QUERY = "what is an attribute reference?"
DOCUMENTS = ["a primary followed by a name", "x", PROSE[3][:120], PROSE[9][40:100], PROSE[11][:60]]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


def words_of(folder: Path, artifacts: str) -> tuple[str, ...]:
    return (*FLOAT32, f"model.path={folder}", "backend=inductor", "process.num_cpus=1", artifacts)


def logits_of(embedder: Embedder, documents: list[str]) -> np.ndarray:
    return embedder.score(QUERY, documents, use_activation=False).astype(np.float64)


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def compiled(request, artifacts, tmp_path_factory) -> Path:
    """A cross-encoder whose Program is in the folder of artifacts; it is a range."""
    folder = tmp_path_factory.mktemp(request.param)
    make_classifier(folder, request.param, 1)
    with Embedder(*words_of(folder, artifacts)) as embedder:
        assert np.abs(logits_of(embedder, DOCUMENTS) - reference_logits(folder, PAIRS)[:, 0]).max() < 1e-4
    return folder


@pytest.mark.slow
def test_pairs_from_the_artifact(compiled, artifacts):
    expected = reference_logits(compiled, PAIRS)[:, 0]
    with Embedder(*words_of(compiled, artifacts), "artifacts.require=true") as embedder:
        assert np.abs(logits_of(embedder, DOCUMENTS) - expected).max() < 1e-4
        assert np.abs(logits_of(embedder, DOCUMENTS[:1]) - expected[:1]).max() < 1e-4


@pytest.mark.slow
def test_another_checkpoint_of_that_structure_gives_its_own_scores_from_the_same_artifact(
    compiled, artifacts, tmp_path
):
    """Down to its smallest parameter, the head's bias, which is one number."""
    other = tmp_path / "other"
    shutil.copytree(compiled, other)
    weights = load_file(other / "model.safetensors")
    (bias,) = [name for name, tensor in weights.items() if tensor.shape == (1,)]
    weights[bias] += 3.0
    some = next(name for name in weights if name.endswith("embeddings.weight"))
    weights[some] *= 0.9
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    expected = reference_logits(other, PAIRS)[:, 0]
    assert np.abs(expected - reference_logits(compiled, PAIRS)[:, 0]).min() > 0.1
    with Embedder(*words_of(other, artifacts), "artifacts.require=true") as embedder:
        assert np.abs(logits_of(embedder, DOCUMENTS) - expected).max() < 1e-4
