"""Inputs that would break a step, over every way in: their requests fail alone, and the server stays up."""

import asyncio
import json
import shutil

import httpx
import numpy as np
import pytest

from sendnn_pipeline import Embedder, RequestError
from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.hooks.fake import install_backend
from tests.reference import mean_pooled_ids
from tests.served import EAGER_FLOAT32, FLOAT32, Served, sendnn
from tests.served_here import ServedHere

SECRET = "/srv/libraries/kernel.so"
FAULTY = f"""
from dataclasses import dataclass
from sendnn_pipeline.backends.base import CompiledProgram
from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.config.schema import BackendConfig

@dataclass(frozen=True)
class Faulty(CompiledProgram):
    inner: CompiledProgram

    def bind(self, weights):
        call = self.inner.bind(weights)

        def run(ids, mask):
            if (ids[:, 1:4] == 13).all(dim=1).any():
                raise RuntimeError("out of range in {SECRET}")
            if (ids[:, 1:4] == 14).all(dim=1).any():
                raise SystemExit(0)
            return call(ids, mask)

        return run

class FaultyBackend(EagerBackend):
    name = "faulty"

    def compile(self, graph):
        return Faulty(super().compile(graph))
"""


@pytest.fixture(scope="module")
def beyond(tiny, tmp_path_factory):
    """The tiny model without special tokens around a text, and with a token that its embedding does not have."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("beyond") / "model")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append({"id": vocab_size, "content": "<pic>", "special": True, **flags})
    tokenizer["post_processor"] = None
    file.write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def served_beyond(beyond):
    with ServedHere(*EAGER_FLOAT32, f"model.path={beyond}") as served:
        yield served


def test_a_token_past_the_embedding_is_named_at_load(served_beyond):
    assert "tokenizer.json adds <pic> beyond the model's" in served_beyond.output


async def ask_all(url, bodies):
    async with httpx.AsyncClient(timeout=60) as client:
        return await asyncio.gather(*(client.post(url, json=body) for body in bodies))


def test_a_bad_text_fails_alone_among_many(served_beyond):
    bodies = [{"input": ["hello world", "what does <pic> mean?" if number % 5 == 0 else "a"]} for number in range(40)]
    bodies += [{"input": ["a", blank]} for blank in (" ", "\n\n", "\t")]
    answers = asyncio.run(ask_all(f"{served_beyond.url}/v1/embeddings", bodies))
    for body, answer in zip(bodies, answers, strict=True):
        bad = "<pic>" in body["input"][1] or not body["input"][1].strip()
        assert answer.status_code == (400 if bad else 200), answer.text
        if bad:
            assert answer.json()["error"]["param"] == "input[1]"
            assert "no tokens" in answer.text or "token id" in answer.text


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/v1/embeddings", {"input": " "}, "input[0]"),
        ("/pooling", {"input": ["a", "<pic>"]}, "input[1]"),
        ("/embed", {"inputs": ["a", "<pic>"]}, None),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["<pic>"]}}, None),
        ("/v1/score", {"text_1": "a", "text_2": ["b", "<pic>"]}, "text_2[1]"),
        ("/rerank", {"query": "a", "documents": ["b", " "]}, "documents[1]"),
    ],
)
def test_every_route_names_the_item(served_beyond, route, body, param):
    answer = served_beyond.post(route, json=body)
    assert answer.status_code in (400, 413, 422), answer.text
    assert "[1]" in answer.text or "[0]" in answer.text
    if param:
        assert answer.json()["error"]["param"] == param, answer.text


def test_in_a_batch_and_in_python_it_is_one_bad_item(beyond, tmp_path, whole_run):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in ["a", "<pic>", " ", "hello"]))
    words = [*EAGER_FLOAT32, f"model.path={beyond}", f"serve.input={source}", f"serve.output={output}"]
    ended = whole_run("serve=batch", *words)
    assert ended.returncode == 0 and "4 lines, 2 of them bad" in ended.stdout, ended.stdout + ended.stderr
    assert [json.loads(line)["line"] for line in output.read_text().splitlines()] == [1, 4]
    with Embedder(*EAGER_FLOAT32, f"model.path={beyond}") as embedder:
        for bad in ("<pic>", " "):
            with pytest.raises(RequestError, match=r"input\[1\] has") as caught:
                embedder.embed(["a", bad])
            assert caught.value.status == 400
        assert embedder.embed("a").shape == (1, 32)


@pytest.fixture
def faulty(site):  # noqa: F811
    """Install a backend whose Programs raise, or exit, on some texts, once real ones are asked."""
    return install_backend(site, "faulty", FAULTY, "FaultyBackend")


def test_a_step_that_raises_or_exits_costs_only_its_culprit(tiny, faulty, tmp_path):
    words = [*FLOAT32, "backend=faulty", f"model.path={tiny}", "warmup.shapes=[16x8]"]
    rows = [[2, 5 + number, 3] for number in range(6)]
    bad = {4: [2, 13, 13, 13, 3], 9: [2, 14, 14, 14, 3]}
    inputs = [bad.get(number, rows[number % 6]) for number in range(12)]
    with Served(*words, **faulty) as served:
        answers = asyncio.run(ask_all(f"{served.url}/v1/embeddings", [{"input": [row]} for row in inputs]))
        for number, answer in enumerate(answers):
            if number in bad:
                error = answer.json()["error"]
                assert answer.status_code == 500 and error["param"] == "input[0]" and error["code"] == "engine_failed"
                assert SECRET not in answer.text and "Error" not in error["message"]
                request_id = answer.headers["x-request-id"]
                assert request_id in error["message"]
                served.wait_line(request_id)
            else:
                assert answer.status_code == 200, answer.text
                vector = answer.json()["data"][0]["embedding"]
                assert np.allclose(vector, mean_pooled_ids(tiny, [inputs[number]])[0], atol=1e-5)
        # By the field that the client sent, wherever the item stands among those of the step.
        for route, body, name in (
            ("/rerank", {"query": "h", "documents": ["h i", "a a a"]}, "documents[1]"),
            ("/rerank", {"query": "a a a", "documents": ["h", "i"]}, "query"),
            ("/score", {"text_1": ["h", "a a a"], "text_2": ["h", "i"]}, "text_1[1]"),
        ):
            answer = served.post(route, json=body)
            assert answer.status_code == 500 and answer.json()["error"]["param"] == name, answer.text
        assert SECRET in served.output
        assert served.get("/ready").status_code == 200
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"input": row}) + "\n" for row in inputs))
    ended = sendnn("serve=batch", *words, f"serve.input={source}", f"serve.output={output}", **faulty)
    assert ended.returncode == 0 and "12 lines, 2 of them bad" in ended.stdout, ended.stdout + ended.stderr
