"""What clients get wrong: each answer is in the envelope and names the field, and the server stays up."""

import codecs
import gzip
import json

import pytest

HEADERS = {"content-type": "application/json"}
CASES = {
    "not JSON": (b"hello", 400, None),
    "nothing": (b"", 400, None),
    "NaN": (b'{"input": NaN}', 400, None),
    "deeply nested": (b'{"input": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "input[0][0]"),
    "very deeply nested": (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None),
    "deeply nested where nothing is expected": (
        b'{"input": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        400,
        None,
    ),
    "not an object": (b"[1]", 400, None),
    "no input": (b"{}", 400, "input"),
    "null input": (b'{"input": null}', 400, "input"),
    "number": (b'{"input": 3}', 400, "input"),
    "empty string": (b'{"input": ""}', 400, "input[0]"),
    "empty list": (b'{"input": []}', 400, "input"),
    "one empty string": (b'{"input": ["a", ""]}', 400, "input[1]"),
    "mixed": (b'{"input": ["a", 1]}', 400, "input"),
    "empty ids": (b'{"input": [[5], []]}', 400, "input[1]"),
    "id outside the vocabulary": (b'{"input": [[5], [6, 99999999]]}', 400, "input[1]"),
    "negative id": (b'{"input": [-1]}', 400, "input[0]"),
    "id too large for an integer": (b'{"input": [1e99]}', 400, "input[0]"),
    "huge integer": (b'{"input": [' + b"9" * 40 + b"]}", 400, "input[0]"),
    "boolean id": (b'{"input": [true]}', 400, "input[0]"),
    "lone surrogate": (b'{"input": "\\ud800"}', 400, None),
    "invalid UTF-8": (b'{"input": "\xff"}', 400, None),
    "too many": (json.dumps({"input": ["a"] * 2049}).encode(), 400, "input"),
    "unknown format": (b'{"input": "a", "encoding_format": "int8"}', 400, "encoding_format"),
    "zero dimensions": (b'{"input": "a", "dimensions": 0}', 400, "dimensions"),
    "text dimensions": (b'{"input": "a", "dimensions": "8"}', 400, "dimensions"),
    "truncate to nothing": (b'{"input": "a", "truncate_prompt_tokens": 0}', 400, "truncate_prompt_tokens"),
    "truncate past the end": (b'{"input": "a", "truncate_prompt_tokens": 4096}', 400, "truncate_prompt_tokens"),
    "too large a number": (b'{"input": "a", "dimensions": 18446744073709551616}', 400, "dimensions"),
    "another model": (b'{"input": "a", "model": "gpt"}', 404, "model"),
    "too large": (b'{"input": "' + b"a" * 9_000_000 + b'"}', 413, None),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_bodies(served_tiny, case):
    body, status, param = CASES[case]
    answer = served_tiny.post("/v1/embeddings", content=body, headers=HEADERS)
    error = answer.json()["error"]
    assert answer.status_code == status, answer.text
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    assert error["code"] and error["type"] and "\n" not in error["message"]
    assert served_tiny.post("/v1/embeddings", json={"input": "still here"}).status_code == 200


def test_a_mark_before_the_body_is_skipped_and_compressed_ones_are_named(served_tiny):
    body = json.dumps({"input": "hello"}).encode()
    marked = served_tiny.post("/v1/embeddings", content=codecs.BOM_UTF8 + body, headers=HEADERS)
    assert marked.status_code == 200, marked.text
    packed = {**HEADERS, "content-encoding": "gzip"}
    answer = served_tiny.post("/v1/embeddings", content=gzip.compress(body), headers=packed)
    assert answer.status_code == 415 and "content encoding gzip" in answer.json()["error"]["message"]


def test_chunked_bodies_are_bounded_too(served_tiny):
    chunks = (b"a" * 1_000_000 for _ in range(9))
    assert served_tiny.post("/v1/embeddings", content=chunks, headers=HEADERS).status_code == 413


def test_errors_of_the_framework_are_in_the_envelope(served_tiny):
    cases = [
        (served_tiny.get("/nowhere"), 404, "not_found"),
        (served_tiny.get("/v1/embeddings"), 405, "method_not_allowed"),
        (served_tiny.post("/v1/embeddings", content=b"a=b", headers={"content-type": "text/plain"}), 415, None),
        (served_tiny.post("/tokenize", json={"prompt": 3}), 400, "invalid_value"),
        (served_tiny.get("/v1/models/other"), 404, "model_not_found"),
    ]
    for answer, status, code in cases:
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert code is None or answer.json()["error"]["code"] == code


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_a_wrong_deadline_header(served_tiny, text):
    answer = served_tiny.post("/v1/embeddings", json={"input": "a"}, headers={"X-Request-Timeout-Seconds": text})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "X-Request-Timeout-Seconds"


def test_answers_do_not_repeat_what_is_huge(served_tiny):
    model = served_tiny.post("/v1/embeddings", json={"input": "a", "model": "m" * 1_000_000})
    assert model.status_code == 404 and len(model.content) < 2000 and "; this server has tiny" in model.text
    for length, status in ((10_000, 404), (50_000, 414)):
        path = served_tiny.get("/" + "p" * length)
        assert path.status_code == status and len(path.content) < 2000
    marked = served_tiny.get("/version", headers={"X-Request-Id": "r" * 50_000})
    assert marked.headers["x-request-id"] == "r" * 256
    late = served_tiny.post("/v1/embeddings", json={"input": "a"}, headers={"X-Request-Timeout-Seconds": "t" * 50_000})
    assert late.status_code == 400 and len(late.content) < 2000
