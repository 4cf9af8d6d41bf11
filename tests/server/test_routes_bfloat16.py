"""The routes in bfloat16, on any CPU: as near to float32 as transformers' own bfloat16 is."""

import numpy as np
import pytest

from tests.classifiers import PROSE, reference_logits
from tests.reference import Rounding, mean_pooled
from tests.served_here import ServedHere

BFLOAT16 = ("model.dtype=bfloat16", "backend=eager")
# Short, as CPUs that only emulate bfloat16 take a second for fifty tokens.
TEXTS = [text[:40] for text in PROSE[:24]]
# Several, as the rounding of a query is in all of its scores.
QUERIES = TEXTS[:8]


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def softmax(rows):
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def embedder(minilm):
    with ServedHere("model=minilm", *BFLOAT16, "warmup.shapes=[32x4]") as served:
        yield served


@pytest.fixture(scope="module")
def vectors(minilm):
    return Rounding.of(lambda dtype: mean_pooled(minilm, TEXTS, dtype))


@pytest.fixture(scope="module")
def cosines(vectors):
    return vectors.through(lambda rows: rows[: len(QUERIES)] @ rows.T)


@pytest.fixture(scope="module")
def ranker(cross_encoder):
    with ServedHere("model=local", f"model.path={cross_encoder}", *BFLOAT16) as served:
        yield served


@pytest.fixture(scope="module")
def logits(cross_encoder):
    pairs = [(QUERIES[0], text) for text in TEXTS]
    return Rounding.of(lambda dtype: reference_logits(cross_encoder, pairs, dtype=dtype)[:, 0])


@pytest.fixture(scope="module")
def labeller(classifier):
    with ServedHere("model=local", f"model.path={classifier}", *BFLOAT16) as served:
        yield served


@pytest.fixture(scope="module")
def labels(classifier):
    return Rounding.of(lambda dtype: reference_logits(classifier, TEXTS, dtype=dtype))


def test_embeddings(embedder, vectors):
    answer = embedder.client().embeddings.create(model="minilm", input=TEXTS)
    vectors.check([row.embedding for row in answer.data])
    vectors.check(embedder.post("/embed", json={"inputs": TEXTS}).json())
    assert embedder.get("/info").json()["model_dtype"] == "bfloat16"


def test_scores_of_vectors(embedder, cosines):
    scored = [embedder.post("/score", json={"queries": query, "documents": TEXTS}).json() for query in QUERIES]
    cosines.check([[row["score"] for row in answer["data"]] for answer in scored])
    bodies = [{"inputs": {"source_sentence": query, "sentences": TEXTS}} for query in QUERIES]
    cosines.check([embedder.post("/similarity", json=body).json() for body in bodies])


def test_rankings_of_vectors(embedder, cosines):
    found = []
    for query in QUERIES:
        results = embedder.post("/v1/rerank", json={"query": query, "documents": TEXTS}).json()["results"]
        assert sorted(results, key=lambda row: -row["relevance_score"]) == results
        scores = {row["index"]: row["relevance_score"] for row in results}
        found.append([scores[place] for place in range(len(TEXTS))])
    cosines.check(found)


def test_scores_of_pairs(ranker, logits):
    body = {"queries": QUERIES[0], "documents": TEXTS}
    raw = ranker.post("/score", json=body | {"use_activation": False}).json()
    logits.check([row["score"] for row in raw["data"]])
    logits.through(sigmoid).check([row["score"] for row in ranker.post("/score", json=body).json()["data"]])
    rows = ranker.post("/predict", json={"inputs": [[QUERIES[0], text] for text in TEXTS]}).json()
    logits.through(sigmoid).check([row[0]["score"] for row in rows])


def test_rankings_of_pairs(ranker, logits):
    results = ranker.post("/rerank", json={"query": QUERIES[0], "texts": TEXTS, "raw_scores": True}).json()
    assert sorted(results, key=lambda row: -row["score"]) == results
    scores = {row["index"]: row["score"] for row in results}
    logits.check([scores[place] for place in range(len(TEXTS))])


def test_labels(labeller, labels):
    data = labeller.post("/classify", json={"input": TEXTS}).json()["data"]
    labels.through(softmax).check([row["probs"] for row in data])
    raw = labeller.post("/classify", json={"input": TEXTS, "use_activation": False}).json()["data"]
    labels.check([row["probs"] for row in raw])
    names = ["no", "yes", "maybe"]
    assert [row["label"] for row in data] == [names[int(np.argmax(row["probs"]))] for row in raw]


def test_the_tolerance_tells_bfloat16_from_float32_and_from_a_wrong_result(labels, vectors, cosines):
    for rounding in (labels, vectors, cosines):
        rounding.check(rounding.rounded)
        with pytest.raises(AssertionError, match="not computed in bfloat16"):
            rounding.check(rounding.exact)
        with pytest.raises(AssertionError, match="times as far"):
            rounding.check(np.roll(rounding.exact, 1, axis=0))
