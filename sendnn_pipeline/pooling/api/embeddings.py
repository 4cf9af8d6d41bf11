"""POST /v1/embeddings."""

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.bodies import Count, CountOrFitting
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Bench, BenchItems, Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend, Usage
from sendnn_pipeline.pooling.api.inputs import EmbeddingInput, check_task, plan_of
from sendnn_pipeline.pooling.api.prompts import prepare_texts, prompt_before
from sendnn_pipeline.pooling.api.rows import EncodingFormat, Rows, encode_rows, gather_vectors
from sendnn_pipeline.pooling.config import Task
from sendnn_pipeline.pooling.plan import pooling_plan
from sendnn_pipeline.pooling.rankings import benches_rankings

# What a line of a batch file has that asks for what is made of texts.
ASKED_BY = (frozenset({"text"}), frozenset({"input"}))


class EmbeddingRequest(msgspec.Struct):
    """The body of the request."""

    input: EmbeddingInput
    model: str | None = None
    encoding_format: EncodingFormat = "float"
    dimensions: Count | None = None
    user: str | None = None
    truncate_prompt_tokens: CountOrFitting | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    add_special_tokens: bool = True
    normalize: bool | None = None


class Embedding(TypedDict):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """The answer of /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


async def _prepare(front: Frontend, body: EmbeddingRequest) -> Prepared:
    front.check_model(body.model)
    check_task(front, Task.embed, "/v1/embeddings")
    check_dimensions(front, body.dimensions)
    prompt = prompt_before(front, body.input, body.prompt_name, body.input_type)
    cut, special = body.truncate_prompt_tokens, body.add_special_tokens
    return await prepare_texts(front, body.input, cut, prompt=prompt, special=special)


def check_dimensions(front: Frontend, dimensions: int | None, name: str = "dimensions") -> None:
    """Refuse a number of dimensions that the model does not give.

    Raises:
        RequestError: 400.
    """
    size = plan_of(front).output_size
    if dimensions is None or dimensions == size:
        return
    if not 1 <= dimensions < size:
        raise RequestError(400, f"{name}={dimensions} must be from 1 to {size}", param=name, code="invalid_value")
    if not front.run.config.model.matryoshka:
        raise RequestError(
            400,
            f"{front.run.served_name} is not trained for shorter vectors, so {name} must be {size} "
            "(model.matryoshka=true overrides)",
            param=name,
            code="unsupported_value",
        )


async def _render(front: Frontend, body: EmbeddingRequest, call: Call) -> Embeddings:
    vectors = await gather_vectors(front, call, body.dimensions, body.normalize)
    rows = encode_rows(vectors, body.encoding_format)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": front.run.served_name,
        "usage": front.usage(call),
    }


def text_of_line(line: Mapping[str, Any], body: type[msgspec.Struct]) -> tuple[dict[str, Any], frozenset[str]] | None:
    """Return the body of a line: of one with ``text`` that alone is asked; one with ``input`` is a body itself."""
    if "text" in line:
        return {"input": line["text"]}, frozenset({"text"})
    if "input" not in line:
        return None
    asked = frozenset(body.__struct_fields__) & line.keys() - {"user"}
    return {name: line[name] for name in asked}, frozenset(asked)


def _ask(front: Frontend, line: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    return text_of_line(line, EmbeddingRequest) if plan_of(front).task == Task.embed else None


def _fields(_body: EmbeddingRequest, content: Any) -> dict[str, Any]:
    vectors = [entry["embedding"] for entry in content["data"]]
    return {"embedding": vectors[0] if len(vectors) == 1 else vectors}


def _rows(content: Any) -> Rows:
    return np.stack([_decode(entry["embedding"]) for entry in content["data"]])


def _decode(row: Any) -> Rows:
    return np.frombuffer(base64.b64decode(row), dtype="<f4") if isinstance(row, str) else row


def _bench_body(run: Run, items: BenchItems) -> dict[str, Any]:
    inputs = [list(ids) for ids in items.token_ids]
    named = {"model": run.served_name, "truncate_prompt_tokens": -1}
    return {**named, "input": inputs, "encoding_format": "base64"}


EMBEDDINGS = Endpoint(
    EmbeddingRequest,
    _prepare,
    _render,
    answer=Embeddings,
    summary="Vectors of texts.",
    lines=Lines(_ask, _fields, _rows, lambda run: pooling_plan(run).output_size, ASKED_BY),
    bench=Bench(lambda run: not pooling_plan(run).classifies and not benches_rankings(run), _bench_body),
)
ENDPOINTS: dict[str, Endpoint[Any]] = {"/v1/embeddings": EMBEDDINGS}
