"""Scores and rankings over HTTP, through the real Cohere client and as vLLM's and Jina's clients send them."""

import cohere
import numpy as np
import pytest

from tests.classifiers import PROSE, reference_logits
from tests.reference import mean_pooled

QUERY = "how do I open a file?"
DOCUMENTS = ["the function open returns a file object", "dogs and cats", "a file is opened for reading", "integers"]


def scores(served, **body):
    answer = served.post("/score", json=body)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [row["index"] for row in data] == list(range(len(data)))
    return np.array([row["score"] for row in data])


@pytest.fixture(scope="module")
def cosines(minilm):
    query, *documents = mean_pooled(minilm, [QUERY, *DOCUMENTS])
    return np.array([query @ document for document in documents])


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits)))


@pytest.mark.parametrize("route", ["/score", "/v1/score"])
def test_a_bi_encoder_scores_by_cosine(served_minilm, cosines, route):
    answer = served_minilm.post(route, json={"model": "minilm", "queries": QUERY, "documents": DOCUMENTS}).json()
    assert np.allclose([row["score"] for row in answer["data"]], cosines, atol=1e-5)
    counted = [served_minilm.post("/tokenize", json={"prompt": text}).json()["count"] for text in [QUERY, *DOCUMENTS]]
    assert answer["usage"] == {"prompt_tokens": sum(counted), "total_tokens": sum(counted)}
    assert answer["object"] == "list" and answer["data"][0]["object"] == "score"


def test_every_name_of_the_two_sides(served_minilm, cosines):
    for first, second in (("text_1", "text_2"), ("data_1", "data_2"), ("queries", "items")):
        assert np.allclose(scores(served_minilm, **{first: QUERY, second: DOCUMENTS}), cosines, atol=1e-5)
    zipped = scores(served_minilm, queries=[QUERY] * 4, documents=DOCUMENTS)
    assert np.allclose(zipped, cosines, atol=1e-5)
    one = scores(served_minilm, queries=QUERY, documents=DOCUMENTS[2])
    assert np.allclose(one, cosines[2:3], atol=1e-5)


def test_a_cross_encoder_reads_pairs(served_cross_encoder, cross_encoder):
    logits = reference_logits(cross_encoder, [(QUERY, document) for document in DOCUMENTS])[:, 0]
    raw = scores(served_cross_encoder, queries=QUERY, documents=DOCUMENTS, use_activation=False)
    assert np.allclose(raw, logits, atol=1e-5)
    assert np.allclose(scores(served_cross_encoder, queries=QUERY, documents=DOCUMENTS), sigmoid(logits), atol=1e-5)


def test_the_cohere_client(served_minilm, cosines):
    best = np.argsort(-cosines)
    client = cohere.ClientV2(api_key="none", base_url=served_minilm.url, httpx_client=served_minilm.session)
    answer = client.rerank(model="minilm", query=QUERY, documents=DOCUMENTS, top_n=3)
    assert [row.index for row in answer.results] == best[:3].tolist()
    assert np.allclose([row.relevance_score for row in answer.results], cosines[best[:3]], atol=1e-5)
    assert answer.meta.api_version.version == "2" and answer.meta.billed_units.search_units == 1
    first = cohere.Client(api_key="none", base_url=served_minilm.url, httpx_client=served_minilm.session)
    answer = first.rerank(model="minilm", query=QUERY, documents=[{"text": text} for text in DOCUMENTS])
    assert [row.index for row in answer.results] == best.tolist()
    assert [row.document.text for row in answer.results] == [DOCUMENTS[place] for place in best]


def test_the_cohere_client_cuts_long_documents_and_reports_errors(served_minilm):
    client = cohere.ClientV2(api_key="none", base_url=served_minilm.url, httpx_client=served_minilm.session)
    long = "word " * 400
    cut = client.rerank(model="minilm", query=QUERY, documents=[long, "word " * 20], max_tokens_per_doc=20)
    assert cut.results[0].relevance_score == pytest.approx(cut.results[1].relevance_score, abs=1e-5)
    assert len(client.rerank(model="minilm", query=QUERY, documents=[long]).results) == 1
    with pytest.raises(cohere.NotFoundError) as caught:
        client.rerank(model="other", query=QUERY, documents=DOCUMENTS)
    assert "minilm" in caught.value.body["error"]["message"]


@pytest.mark.parametrize("route", ["/rerank", "/v1/rerank"])
def test_jina_and_vllm(served_cross_encoder, cross_encoder, route):
    logits = reference_logits(cross_encoder, [(QUERY, document) for document in DOCUMENTS])[:, 0]
    best = np.argsort(-logits)
    body = {"query": {"text": QUERY}, "documents": [DOCUMENTS[0], {"text": DOCUMENTS[1]}, *DOCUMENTS[2:]]}
    answer = served_cross_encoder.post(route, json=body).json()
    assert answer.keys() == {"id", "model", "usage", "results"}
    assert [row["index"] for row in answer["results"]] == best.tolist()
    assert np.allclose([row["relevance_score"] for row in answer["results"]], sigmoid(logits[best]), atol=1e-5)
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[best[0]]}
    bare = served_cross_encoder.post(route, json=body | {"return_documents": False, "top_n": 1}).json()["results"]
    assert [row.keys() for row in bare] == [{"index", "relevance_score"}]
    assert len(served_cross_encoder.post(route, json=body | {"top_n": 0}).json()["results"]) == 4


def test_pairs_are_cut_per_part_or_refused(served_cross_encoder, cross_encoder):
    long = " ".join(PROSE[4].split()[:90])
    refused = served_cross_encoder.post("/score", json={"queries": QUERY, "documents": ["fine", long]})
    error = refused.json()["error"]
    assert refused.status_code == 400 and error["param"] == "documents[1]", error
    assert error["code"] == "context_length_exceeded" and "with its query" in error["message"]
    cut = scores(served_cross_encoder, queries=QUERY, documents=[long], truncate_prompt_tokens=-1, use_activation=False)
    assert np.allclose(cut, reference_logits(cross_encoder, [(QUERY, long)], most=96)[:, 0], atol=1e-5)
    words = served_cross_encoder.post("/tokenize", json={"prompt": long, "add_special_tokens": False}).json()
    kept = served_cross_encoder.post("/detokenize", json={"tokens": words["tokens"][:10]}).json()["prompt"]
    per_part = scores(served_cross_encoder, queries=QUERY, documents=[long], max_tokens_per_doc=10)
    answer = served_cross_encoder.post("/score", json={"queries": QUERY, "documents": [long], "max_tokens_per_doc": 10})
    query = served_cross_encoder.post("/tokenize", json={"prompt": QUERY, "add_special_tokens": False}).json()
    assert answer.json()["usage"]["prompt_tokens"] == query["count"] + 10 + 3 and kept and len(per_part) == 1


BAD = {
    "no documents": ({"queries": "a"}, "documents"),
    "no queries": ({"documents": ["a"]}, "queries"),
    "a side said twice": ({"queries": "a", "text_1": "a", "documents": ["b"]}, "queries"),
    "more queries than documents": ({"queries": ["a", "b"], "documents": ["c"]}, "queries"),
    "empty list": ({"queries": "a", "documents": []}, "documents"),
    "empty document": ({"queries": "a", "documents": ["b", ""]}, "documents[1]"),
    "a document without text": ({"queries": "a", "documents": ["b", {"title": "c"}]}, "documents[1]"),
    "a number": ({"queries": "a", "documents": [1]}, "documents[0]"),
    "too many": ({"queries": "a", "documents": ["b"] * 2049}, "documents"),
    "a limit of nothing": ({"queries": "a", "documents": ["b"], "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
    "truncated to nothing": (
        {"queries": "a", "documents": ["b"], "truncate_prompt_tokens": 3},
        "truncate_prompt_tokens",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scores(served_cross_encoder, case):
    body, param = BAD[case]
    answer = served_cross_encoder.post("/score", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_bad_rankings(served_minilm):
    for body, param in (
        ({"query": "a"}, "documents"),
        ({"query": "", "documents": ["b"]}, "query"),
        ({"query": {"title": "a"}, "documents": ["b"]}, "query"),
        ({"query": "word " * 300, "documents": ["b"]}, "query"),
        ({"query": "a", "documents": ["b", {"title": "c"}]}, "documents[1]"),
        ({"documents": ["b"]}, "query"),
        ({"query": "a", "documents": ["b"], "top_n": -1}, "top_n"),
    ):
        answer = served_minilm.post("/v1/rerank", json=body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text
    refused = served_minilm.post("/v2/rerank", json={"query": "a", "texts": ["b"]})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "texts", refused.text


def test_what_is_of_the_other_form_is_named_with_that(served_minilm):
    documents, texts = {"query": "a", "documents": ["b"]}, {"query": "a", "texts": ["b"]}
    for extra in ({"truncate": True}, {"truncation_direction": "Left"}, {"raw_scores": True}, {"return_text": True}):
        (name,) = extra
        error = served_minilm.post("/rerank", json={**documents, **extra}).json()["error"]
        message = f"{name} is not for a request with documents; send one of them"
        assert (error["param"], error["message"]) == (name, message)
    limits = {"max_tokens_per_doc": 5, "max_tokens_per_query": 5, "truncate_prompt_tokens": -1}
    for name, value in {"documents": ["b"], "use_activation": False, **limits}.items():
        answer = served_minilm.post("/rerank", json={**texts, name: value})
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"] == f"{name} is not for a request with texts; send one of them"
    same = {"raw_scores": False, "return_text": None, "truncate": None, "truncation_direction": "Right"}
    assert served_minilm.post("/rerank", json={**documents, **same}).status_code == 200, "as unset"
    assert served_minilm.post("/rerank", json={**texts, "return_documents": True}).json()[0]["text"] == "b"
    (shown,) = served_minilm.post("/v2/rerank", json={**documents, "return_documents": True}).json()["results"]
    assert shown["document"] == {"text": "b"}


@pytest.mark.parametrize(
    ("served", "route", "body", "says"),
    [
        ("served_classifier", "/score", {"queries": "a", "documents": ["b"]}, "3 labels"),
        ("served_classifier", "/v1/rerank", {"query": "a", "documents": ["b"]}, "/classify gives labels"),
        ("served_cross_encoder", "/v1/embeddings", {"input": "a"}, "labels or scores of pairs"),
        ("served_minilm", "/classify", {"input": "a"}, "gives embeddings"),
    ],
)
def test_what_a_model_cannot_do_says_what_it_can(request, served, route, body, says):
    error = request.getfixturevalue(served).post(route, json=body).json()["error"]
    assert error["code"] == "unsupported_task" and says in error["message"], error
