"""The embeddings route through the real client, against transformers' own output."""

import base64
import json
import shutil

import cohere
import numpy as np
import openai
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantize_embeddings
from tokenizers import Tokenizer

from tests.reference import mean_pooled
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere


def cohere_client(served):
    return cohere.ClientV2(api_key="none", base_url=served.url, httpx_client=served.session)


def cosines(left, right):
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def embed(client, texts, **options):
    answer = client.embeddings.create(model="minilm", input=texts, **options)
    assert [row.index for row in answer.data] == list(range(len(texts)))
    return np.array([row.embedding for row in answer.data])


def test_texts_of_all_lengths_equal_transformers_in_fp32(served_minilm, texts, vectors_of_texts):
    vectors = embed(served_minilm.client(), texts, extra_body={"truncate_prompt_tokens": 256})
    assert cosines(vectors, vectors_of_texts).min() >= 0.99999


def test_the_client_s_default_base64_equals_floats(served_minilm):
    client = served_minilm.client()
    texts = ["a first text", "and a second"]
    assert np.array_equal(embed(client, texts), embed(client, texts, encoding_format="float").astype(np.float32))
    raw = served_minilm.post("/v1/embeddings", json={"input": texts, "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), dtype="<f4")
    assert vector.shape == (384,)


def test_usage_counts_real_tokens_and_all_input_kinds_agree(served_minilm):
    client = served_minilm.client()
    text = "compiled shapes are fixed"
    ids = served_minilm.post("/tokenize", json={"prompt": text}).json()["tokens"]
    one = client.embeddings.create(model="minilm", input=text, user="somebody")
    assert one.usage.prompt_tokens == one.usage.total_tokens == len(ids)
    for given in ([text], ids, [ids]):
        again = client.embeddings.create(model="minilm", input=given)
        assert len(again.data) == 1
        assert np.allclose(again.data[0].embedding, one.data[0].embedding, atol=1e-6)


def test_an_input_that_fits_no_program_names_itself_and_the_numbers(served_minilm):
    with pytest.raises(openai.BadRequestError) as caught:
        served_minilm.client().embeddings.create(model="minilm", input=["fine", "word " * 300])
    body = caught.value.body
    assert body["param"] == "input[1]" and body["code"] == "context_length_exceeded"
    assert "302" in body["message"] and "256" in body["message"]


def test_truncation_keeps_the_special_tokens(served_minilm, minilm):
    client, long = served_minilm.client(), "word " * 300
    vectors = embed(client, [long], extra_body={"truncate_prompt_tokens": -1})
    assert cosines(vectors, mean_pooled(minilm, [long])).min() >= 0.99999
    answer = client.embeddings.create(model="minilm", input=long, extra_body={"truncate_prompt_tokens": 20})
    assert answer.usage.prompt_tokens == 20


def test_dimensions(served_minilm):
    client = served_minilm.client()
    full = client.embeddings.create(model="minilm", input="a text", dimensions=384)
    assert len(full.data[0].embedding) == 384
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="minilm", input="a text", dimensions=64)
    assert caught.value.body["param"] == "dimensions"


def test_vectors_do_not_depend_on_batch_mates(served_minilm, texts):
    client = served_minilm.client()
    some = [text for text in texts if len(text) < 200][:24]
    together = embed(client, some)
    alone = np.concatenate([embed(client, [text]) for text in some])
    assert cosines(together, alone).min() >= 0.999999


def test_another_model_is_404(served_minilm):
    with pytest.raises(openai.NotFoundError) as caught:
        served_minilm.client().embeddings.create(model="other", input="a text")
    assert caught.value.body["code"] == "model_not_found" and "minilm" in caught.value.body["message"]


def test_the_cohere_client(served_minilm, minilm):
    client, texts = cohere_client(served_minilm), ["a first text", "and a second", "word " * 300]
    expected = mean_pooled(minilm, texts)
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(model="minilm", texts=texts, input_type="search_query", embedding_types=kinds)
    found = answer.embeddings
    assert np.allclose(found.float_, expected, atol=1e-5) and answer.texts == texts
    for kind, row in (("ubinary", found.ubinary), ("binary", found.binary)):
        # The library's own rule.
        assert np.array_equal(row, quantize_embeddings(np.asarray(found.float_, np.float32), kind)), kind
    # The library's own rule again, with the range that vectors of length one have, so that no batch decides it.
    ranges = np.array([[-1.0] * 384, [1.0] * 384], np.float32)
    theirs = quantize_embeddings(np.asarray(found.float_, np.float32), "uint8", ranges=ranges)
    assert np.abs(np.asarray(found.uint8) - theirs.astype(int)).max() <= 2
    assert np.array_equal(np.asarray(found.int8) + 128, found.uint8)
    whole = np.asarray(found.int8, float)
    assert np.allclose(whole @ whole.T / 127**2, expected @ expected.T, atol=0.01)
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in found.base64]
    assert np.allclose(decoded, expected, atol=1e-5)
    assert answer.meta.billed_units.input_tokens == 5 + 5 + 256
    long = client.embed(model="minilm", texts=["word " * 300], input_type="classification", max_tokens=10)
    (cut,) = long.embeddings.float_
    assert np.allclose(cut, mean_pooled(minilm, ["word " * 8]), atol=1e-5)
    with pytest.raises(cohere.BadRequestError):
        client.embed(model="minilm", texts=texts, input_type="search_query", truncate="NONE")
    whole = {"texts": ["a", "hello world"], "truncate": "NONE"}
    assert served_minilm.post("/v2/embed", json={**whole, "max_tokens": 4}).status_code == 200
    error = served_minilm.post("/v2/embed", json={**whole, "max_tokens": 3}).json()["error"]
    assert error["message"] == "texts[1] has 4 tokens, max_tokens is 3, and truncate is NONE"
    for wrong in ({}, {"images": ["data:"]}, {"texts": []}, {"texts": ["a"], "embedding_types": ["int4"]}):
        assert served_minilm.post("/v2/embed", json=wrong).status_code == 400, wrong


def test_the_cohere_client_s_types_are_the_model_s_prompts(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    prompts = {"prompts": {"query": "to a ", "passage": "of the "}}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    with ServedHere(*EAGER_FLOAT32, f"model.path={tmp_path}", "warmup.shapes=[48x4]") as served:
        client = cohere_client(served)
        for kind, text in (("search_query", "to a w"), ("search_document", "of the w"), ("clustering", "w")):
            found = client.embed(model=tmp_path.name, texts=["w"], input_type=kind).embeddings.float_
            assert np.allclose(found, mean_pooled(tiny, [text]), atol=1e-5), kind


@pytest.mark.parametrize(("route", "field"), [("/v1/embeddings", "embedding"), ("/pooling", "data")])
def test_vectors_as_long_as_they_are_and_texts_without_special_tokens(served_minilm, minilm, route, field):
    model = SentenceTransformer(str(minilm), device="cpu")
    # The library's own modules without the last, which scales.
    whole = SentenceTransformer(modules=list(model)[:-1], device="cpu").encode("dogs bark")

    def ask(**options):
        (entry,) = served_minilm.post(route, json={"input": ["dogs bark"], **options}).json()["data"]
        return np.array(entry[field])

    assert np.allclose(ask(normalize=False), whole, atol=1e-5)
    assert np.allclose(ask(normalize=False, dimensions=len(whole)), whole, atol=1e-5)
    for normalize in (True, None):
        assert np.allclose(ask(normalize=normalize), whole / np.linalg.norm(whole), atol=1e-5)
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    bare = tokenizer.encode("dogs bark", add_special_tokens=False).ids
    assert np.allclose(ask(add_special_tokens=False), ask(input=[bare]), atol=1e-6)
    assert not np.allclose(ask(add_special_tokens=False), ask(), atol=1e-2)
