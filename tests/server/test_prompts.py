"""One vector on every way in: the default prompt of the model's files, and the prompts that requests choose."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from tests.sentence_models import save
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere

TEXTS = ["hello world", "the a of and", "is in a world"]
FILE = {"prompts": {"query": "to the world of ", "document": "in a: "}, "default_prompt_name": "query"}


@pytest.fixture(scope="module")
def prompted(tiny, tmp_path_factory):
    """A model with prompts, one of them the default."""
    folder = tmp_path_factory.mktemp("prompted")
    save(tiny, folder, Normalize(), **FILE)
    return folder


@pytest.fixture(scope="module")
def reference(prompted):
    """sentence-transformers' own model of it."""
    return SentenceTransformer(str(prompted), device="cpu")


@pytest.fixture(scope="module")
def served_prompted(prompted):
    """A real server of it."""
    with ServedHere(*EAGER_FLOAT32, f"model.path={prompted}", "warmup.shapes=[48x4]") as served:
        yield served


def test_every_route_puts_the_default_prompt(served_prompted, reference):
    vectors = reference.encode(TEXTS)
    ask = served_prompted.post
    found = {
        "/v1/embeddings": [row["embedding"] for row in ask("/v1/embeddings", json={"input": TEXTS}).json()["data"]],
        "/embed": ask("/embed", json={"inputs": TEXTS}).json(),
        "/pooling": [row["data"] for row in ask("/pooling", json={"input": TEXTS}).json()["data"]],
        "the real client": [row.embedding for row in _client(served_prompted, TEXTS)],
    }
    for route, rows in found.items():
        assert np.abs(np.array(rows) - vectors).max() < 1e-5, route
    cosines = vectors[1:] @ vectors[0]
    body = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    scores = {
        "/similarity": ask("/similarity", json={"inputs": body}).json(),
        "/score": [
            row["score"] for row in ask("/score", json={"text_1": TEXTS[0], "text_2": TEXTS[1:]}).json()["data"]
        ],
    }
    ranked = ask("/rerank", json={"query": TEXTS[0], "documents": TEXTS[1:]}).json()["results"]
    scores["/rerank"] = [row["relevance_score"] for row in sorted(ranked, key=lambda row: row["index"])]
    for route, numbers in scores.items():
        assert numbers == pytest.approx(cosines.tolist(), abs=1e-5), route


def _client(served, texts, **extra):
    return served.client().embeddings.create(model=_name(served), input=texts, extra_body=extra).data


def _name(served):
    return served.get("/v1/models").json()["data"][0]["id"]


def test_a_request_chooses(served_prompted, reference):
    for extra, expected in (
        ({"prompt_name": "document"}, reference.encode(TEXTS, prompt_name="document")),
        ({"input_type": "passage"}, reference.encode_document(TEXTS)),
        ({"input_type": "search_query"}, reference.encode_query(TEXTS)),
    ):
        rows = [row.embedding for row in _client(served_prompted, TEXTS, **extra)]
        assert np.abs(np.array(rows) - expected).max() < 1e-5, extra
        pooled = served_prompted.post("/pooling", json={"input": TEXTS, **extra}).json()["data"]
        assert np.abs(np.array([row["data"] for row in pooled]) - expected).max() < 1e-5, extra
    vectors = reference.encode(TEXTS, prompt_name="document")
    cosines = pytest.approx((vectors[1:] @ vectors[0]).tolist(), abs=1e-5)
    sides = {"text_1": TEXTS[0], "text_2": TEXTS[1:], "prompt_name": "document"}
    assert [row["score"] for row in served_prompted.post("/score", json=sides).json()["data"]] == cosines
    asked = {"query": TEXTS[0], "documents": TEXTS[1:], "prompt_name": "document"}
    ranked = served_prompted.post("/rerank", json=asked).json()["results"]
    assert [row["relevance_score"] for row in sorted(ranked, key=lambda row: row["index"])] == cosines
    ids = served_prompted.post("/tokenize", json={"prompt": TEXTS[0]}).json()["tokens"]
    (row,) = _client(served_prompted, ids)
    assert np.abs(row.embedding - reference.encode([TEXTS[0]], prompt="")).max() < 1e-5, "ids stay as they are"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"prompt_name": "title"}, "the model has no prompt title; it has document, query"),
        ({"input_type": "title"}, "input_type=title must be one of query, search_query, document, passage"),
        ({"input_type": "query", "prompt_name": "query"}, "both choose the prompt"),
    ],
)
def test_what_it_cannot_choose_is_named(served_prompted, extra, message):
    for path in ("/v1/embeddings", "/pooling"):
        answer = served_prompted.post(path, json={"input": "a", **extra})
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_no_prompt_is_chosen_for_token_ids(served_prompted):
    for path, body in (
        ("/v1/embeddings", {"input": [[9, 8]], "prompt_name": "document"}),
        ("/v1/embeddings", {"input": [9, 8], "input_type": "query"}),
        ("/pooling", {"input": [[9, 8]], "prompt_name": "query"}),
    ):
        answer = served_prompted.post(path, json=body)
        assert answer.status_code == 400 and "the input is token ids" in answer.json()["error"]["message"], answer.text
    assert served_prompted.post("/embed", json={"inputs": [9, 8], "prompt_name": "query"}).status_code == 422


def test_info_and_plan_say_so(served_prompted):
    model = served_prompted.get("/info").json()["model"]
    assert model["default_prompt"] == "query" and model["prompts"] == FILE["prompts"]
    assert model["files"]["prompts"] == "config_sentence_transformers.json"
    assert model["files"]["pooling"] == "1_Pooling/config.json" and model["modules"] == ["normalize"]
    (line,) = [line for line in served_prompted.lines if line.startswith("prompts")]
    assert "query before every text" in line and "(config_sentence_transformers.json)" in line


def test_a_batch_file(prompted, reference, tmp_path, whole_run):
    openai = {"custom_id": "1", "url": "/v1/embeddings", "body": {"input": TEXTS[0], "prompt_name": "document"}}
    lines = [
        TEXTS[0],
        {"input": TEXTS[0], "prompt_name": "document"},
        {"input": TEXTS[0], "input_type": "document"},
        openai,
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = whole_run(
        *EAGER_FLOAT32, f"model.path={prompted}", "serve=batch", f"serve.input={source}", f"serve.output={target}"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    plain, other = reference.encode([TEXTS[0]])[0], reference.encode([TEXTS[0]], prompt_name="document")[0]
    assert np.abs(np.array(rows[0]["embedding"]) - plain).max() < 1e-5
    for row in rows[1:3]:
        assert np.abs(np.array(row["embedding"]) - other).max() < 1e-5
    answered = rows[3]["response"]["body"]["data"][0]["embedding"]
    assert np.abs(np.array(answered) - other).max() < 1e-5
