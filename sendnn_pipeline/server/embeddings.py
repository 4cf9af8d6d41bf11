"""POST /v1/embeddings."""

import base64
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sendnn_pipeline.server.answering import Endpoint, check_model, usage_of
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import ApiError, check_task
from sendnn_pipeline.server.inputs import token_ids_of, type_input
from sendnn_pipeline.server.state import ServerState

type_array = npt.NDArray[np.float32]
type_format = Literal["float", "base64"]


class EmbeddingRequest(msgspec.Struct):
    """The body of the request."""

    input: type_input
    model: str | None = None
    encoding_format: type_format = "float"
    dimensions: int | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = None


async def _compute(state: ServerState, body: EmbeddingRequest, deadline: float) -> Pending:
    check_model(state, body.model)
    check_task(state.run, "embed", "/v1/embeddings")
    check_dimensions(state, body.dimensions)
    ids = await token_ids_of(state, body.input, body.truncate_prompt_tokens)
    return await state.engine.compute(ids, deadline)


def check_dimensions(state: ServerState, dimensions: int | None) -> None:
    """Refuse a number of dimensions that the model does not give.

    Raises:
        ApiError: 400.
    """
    size = state.run.dimensions
    if dimensions is None or dimensions == size:
        return
    if not 1 <= dimensions < size:
        raise ApiError(
            400, f"dimensions={dimensions} must be from 1 to {size}", param="dimensions", code="invalid_value"
        )
    if not state.run.config.model.matryoshka:
        raise ApiError(
            400,
            f"{state.run.served_name} is not trained for shorter vectors, so dimensions must be {size} "
            "(model.matryoshka=true overrides)",
            param="dimensions",
            code="unsupported_value",
        )


def _render(state: ServerState, body: EmbeddingRequest, pending: Pending) -> dict[str, Any]:
    rows = encoded(shortened(pending.rows, body.dimensions), body.encoding_format)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": state.run.served_name,
        "usage": usage_of(state, pending),
    }


def shortened(vectors: type_array, dimensions: int | None) -> type_array:
    """Cut ``[rows, dimensions]`` and scale every row to length one again; whole vectors stay as they are."""
    if dimensions is None or dimensions >= vectors.shape[1]:
        return vectors
    return unit(vectors[:, :dimensions])


def unit(vectors: type_array) -> type_array:
    """Scale every row to length one."""
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled: type_array = vectors / norms
    return scaled


def encoded(rows: type_array, encoding_format: type_format) -> list[Any]:
    """Return each row as it is written: numbers, or little-endian float32 in base64."""
    if encoding_format == "float":
        return list(np.ascontiguousarray(rows))
    return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii") for row in rows]


ENDPOINTS: dict[str, Endpoint[Any]] = {"/v1/embeddings": Endpoint(EmbeddingRequest, _compute, _render)}
