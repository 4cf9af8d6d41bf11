"""Every request struct of every route: null is unset, and no number is too large to be refused by name."""

import json
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

import msgspec
import pytest

from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.frontend.bodies import convert_body, decode_body
from sendnn_pipeline.frontend.errors import MAX_MESSAGE_LENGTH, RequestError
from sendnn_pipeline.server import tokens
from tests.contract.tables import own_context

REQUIRED = {"input": "a", "inputs": "a", "query": "a", "prompt": "a", "tokens": [1], "ids": [1]}
REQUIRED["messages"] = [{"role": "user", "content": "a"}]
NESTED = {"name": "a", "schema": {}}
SENTENCES = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}


def shapes() -> dict[str, type]:
    context = own_context()
    engines = context.plugins.registry("register_engines", "engine").entries
    endpoints = [entry for engine in engines for entry in collect_endpoints(context.plugins, engine).items()]
    of_engines = {path: endpoint.body for path, endpoint in endpoints}
    of_tokens = (tokens.TokenizeRequest, tokens.DetokenizeRequest, tokens.DecodeRequest)
    return of_engines | dict(zip(("/tokenize", "/detokenize", "/decode"), of_tokens, strict=True))


SHAPES = shapes()


def smallest(path: str, shape: type) -> dict:
    """Return the smallest body of a route."""
    names = {field.name for field in msgspec.structs.fields(shape) if field.required}
    return {name: REQUIRED[name] for name in names} | (SENTENCES if path == "/similarity" else {})


def optional(shape: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], msgspec.structs.FieldInfo]]:
    """Yield every field that may be left out, those of nested structs included."""
    for field in msgspec.structs.fields(shape):
        for kind in structs(field):
            yield from optional(kind, (*path, field.name))
        if not field.required:
            yield (*path, field.name), field


def structs(field: msgspec.structs.FieldInfo) -> list[type]:
    return [kind for kind in (field.type, *get_args(field.type)) if isinstance(kind, msgspec._core.StructMeta)]


def with_value(shape: type, body: dict, path: tuple[str, ...], value: object) -> dict:
    """Return ``body`` with one field more, in structs that have what they require."""
    name, *rest = path
    if not rest:
        return body | {name: value}
    (field,) = [one for one in msgspec.structs.fields(shape) if one.name == name]
    (kind,) = [one for one in structs(field) if rest[0] in one.__struct_fields__]
    return body | {name: with_value(kind, body.get(name) or required(kind), tuple(rest), value)}


def without(body: dict, path: tuple[str, ...]) -> dict:
    name, *rest = path
    others = {other: value for other, value in body.items() if other != name}
    return others | ({name: without(body[name], tuple(rest))} if rest else {})


def required(shape: type) -> dict:
    """Return what a nested struct cannot do without."""
    found = {}
    for field in msgspec.structs.fields(shape):
        if field.required and (kinds := structs(field)):
            found[field.name] = required(kinds[0])
        elif field.required:
            found[field.name] = get_args(field.type)[0] if get_origin(field.type) is Literal else NESTED[field.name]
    return found


@pytest.mark.parametrize("path", SHAPES)
def test_null_is_unset(path):
    shape = SHAPES[path]
    body, names = smallest(path, shape), [name for name, _ in optional(shape)]
    assert names
    for name in names:
        asked = with_value(shape, body, name, None)
        unset = decode_body(json.dumps(without(asked, name)).encode(), shape)
        assert decode_body(json.dumps(asked).encode(), shape) == unset, name
        assert convert_body(asked, shape) == unset, name
    everything = body
    for name in names:
        everything = with_value(shape, everything, name, None)
    assert decode_body(json.dumps(everything).encode(), shape)


@pytest.mark.parametrize("path", SHAPES)
def test_a_number_of_any_size_is_refused_by_name(path):
    shape = SHAPES[path]
    numbers = [name for name, field in optional(shape) if "int" in repr(field.type) and "list" not in repr(field.type)]
    for name in numbers:
        # Of 64 bits.
        beyond = (2**63, -(2**63) - 1) if name[-1] == "seed" else (2**31, -(2**63))
        for number in (*beyond, 2**64, 10**40):
            raw = json.dumps(with_value(shape, smallest(path, shape), name, number)).encode()
            with pytest.raises(RequestError) as caught:
                decode_body(raw, shape)
            assert caught.value.status == 400 and caught.value.param == ".".join(name), (name, number)


def test_what_is_required_cannot_be_null():
    shape = SHAPES["/v1/embeddings"]
    for raw in (b'{"input": null}', b'{"input": [null]}', b'{"input": ["a", null]}', b"null"):
        with pytest.raises(RequestError, match=r"input|body"):
            decode_body(raw, shape)


def test_a_refusal_repeats_no_more_than_a_glimpse_of_what_was_sent():
    raw = json.dumps({"input": "a", "encoding_format": "x" * 10**6}).encode()
    with pytest.raises(RequestError) as caught:
        decode_body(raw, SHAPES["/v1/embeddings"])
    assert len(caught.value.message) <= MAX_MESSAGE_LENGTH + 3 and caught.value.param == "encoding_format"
    error = RequestError(404, f"no model {'x' * 10**6}; this server has tiny", code="model_not_found")
    assert error.message.startswith("no model xxx") and error.message.endswith("; this server has tiny")


def test_what_is_nested_too_deeply_is_refused():
    nested: object = "a"
    for _ in range(5000):
        nested = [nested]
    for content in ({"input": nested}, {"input": "a", "user": nested}):
        with pytest.raises(RequestError):
            convert_body(content, SHAPES["/v1/embeddings"])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (rb'{"input": "\ud800"}', r"half of a letter, \ud800, at byte 11"),
        (rb'{"input": "\ud83d\ude00 \udc00"}', r"half of a letter, \udc00, at byte 24"),
        (rb'{"input": "\\ud800', "truncated"),
        (rb'{"input": "\ud83d\ude00"', "truncated"),
    ],
)
def test_half_a_letter_is_named(raw, says):
    with pytest.raises(RequestError) as refused:
        decode_body(raw, dict)
    assert refused.value.status == 400 and says in refused.value.message
