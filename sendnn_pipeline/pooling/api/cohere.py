"""POST /v2/embed, as Cohere's client asks."""

import uuid
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np

from sendnn_pipeline.frontend.bodies import Count
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint, Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.truncation import Side
from sendnn_pipeline.pooling.api.embeddings import check_dimensions
from sendnn_pipeline.pooling.api.field import TEXTS
from sendnn_pipeline.pooling.api.inputs import EmbeddingInput, check_task
from sendnn_pipeline.pooling.api.prompts import prepare_texts, prompt_of
from sendnn_pipeline.pooling.api.rows import Rows, encode_rows, gather_vectors, unit
from sendnn_pipeline.pooling.config import Task
from sendnn_pipeline.pooling.messages import PoolingRequest

MOST_OF_A_BYTE = 127
SIDES: dict[str, Side] = {"NONE": "right", "START": "left", "END": "right"}


class CohereEmbedRequest(msgspec.Struct):
    """The body of /v2/embed."""

    texts: list[str] | None = None
    images: list[Any] | None = None
    inputs: list[Any] | None = None
    model: str | None = None
    input_type: str | None = None
    embedding_types: list[Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]] | None = None
    output_dimension: Count | None = None
    max_tokens: Count | None = None
    truncate: Literal["NONE", "START", "END"] = "END"


class CohereEmbeddings(TypedDict):
    """The answer of /v2/embed."""

    id: str
    embeddings: dict[str, list[list[float] | str]]
    texts: list[str]
    meta: dict[str, Any]
    response_type: Literal["embeddings_by_type"]


async def _prepare(front: Frontend, body: CohereEmbedRequest) -> Prepared:
    front.check_model(body.model)
    check_task(front, Task.embed, "/v2/embed")
    check_dimensions(front, body.output_dimension, "output_dimension")
    other = next((name for name in ("images", "inputs") if getattr(body, name)), None)
    if body.texts is None or other:
        message = f"{other} is not for this model: send texts" if other else "texts is missing"
        raise RequestError(400, message, param=other or "texts", code="unsupported_value" if other else "invalid_value")
    prompt = prompt_of(front, input_type=body.input_type)
    texts: EmbeddingInput = [*body.texts]
    asked = max(body.max_tokens or front.max_input_tokens, front.tokenizer.num_special + 1)
    most = min(front.max_input_tokens, asked)
    cut, side = None if body.truncate == "NONE" else most, SIDES[body.truncate]
    prepared = await prepare_texts(front, texts, cut, prompt=prompt, field=TEXTS, side=side)
    assert isinstance(prepared.payload, PoolingRequest)
    lengths = [len(ids) for ids in prepared.payload.items]
    if max(lengths) > most:
        index = next(index for index, length in enumerate(lengths) if length > most)
        message = f"texts[{index}] has {lengths[index]} tokens, max_tokens is {body.max_tokens}, and truncate is NONE"
        raise RequestError(400, message, param=f"texts[{index}]", code="context_length_exceeded")
    return prepared


async def _render(front: Frontend, body: CohereEmbedRequest, call: Call) -> CohereEmbeddings:
    vectors = await gather_vectors(front, call, body.output_dimension)
    num_tokens = call.work.num_tokens
    return {
        "id": str(uuid.uuid4()),
        "embeddings": {kind: _write(vectors, kind) for kind in body.embedding_types or ["float"]},
        "texts": body.texts or [],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": num_tokens}},
        "response_type": "embeddings_by_type",
    }


def _write(vectors: Rows, kind: str) -> list[Any]:
    """Write vectors as numbers, in base64, as bytes, or as signs, eight in a byte.

    A byte is a number of a vector of length one times 127, so that products of vectors can be compared; of unsigned
    bytes 128 is zero.
    """
    if kind in ("float", "base64"):
        return encode_rows(vectors, "float" if kind == "float" else "base64")
    if kind in ("int8", "uint8"):
        whole = np.rint(unit(vectors) * MOST_OF_A_BYTE).astype(np.int16)
        return list(whole.astype(np.int8) if kind == "int8" else (whole + 128).astype(np.uint8))
    signs = np.packbits(vectors > 0, axis=1)
    return list(signs if kind == "ubinary" else (signs.astype(np.int16) - 128).astype(np.int8))


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v2/embed": Endpoint(
        CohereEmbedRequest,
        _prepare,
        _render,
        answer=CohereEmbeddings,
        summary="Vectors of texts, for Cohere's client.",
    )
}
