"""POST /classify and POST /pooling: labels with their probabilities, and whatever the model gives."""

import uuid
from typing import Any

import msgspec

from sendnn_pipeline.server.answering import Endpoint, check_model, usage_of
from sendnn_pipeline.server.embeddings import check_dimensions, encoded, shortened, type_format
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import check_task
from sendnn_pipeline.server.inputs import token_ids_of, type_input
from sendnn_pipeline.server.scoring import activated, activation_of
from sendnn_pipeline.server.state import ServerState


class ClassifyRequest(msgspec.Struct):
    """The body of /classify."""

    input: type_input
    model: str | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    user: str | None = None


class PoolingRequest(ClassifyRequest):
    """The body of /pooling."""

    task: str | None = None
    encoding_format: type_format = "float"
    dimensions: int | None = None


async def _classify(state: ServerState, body: ClassifyRequest, deadline: float) -> Pending:
    check_task(state.run, "classify", "/classify")
    return await _compute(state, body, deadline)


async def _compute(state: ServerState, body: ClassifyRequest, deadline: float) -> Pending:
    check_model(state, body.model)
    ids = await token_ids_of(state, body.input, body.truncate_prompt_tokens)
    return await state.engine.compute(ids, deadline)


def _labels(state: ServerState, body: ClassifyRequest, pending: Pending) -> dict[str, Any]:
    labels = state.run.model.labels
    probabilities = activated(pending.rows, activation_of(state.run.model, body.use_activation is not False))
    data = [
        {"index": index, "label": labels[int(row.argmax())], "probs": row.tolist(), "num_classes": len(labels)}
        for index, row in enumerate(probabilities)
    ]
    return _listed(state, "classify", data, pending)


async def _pool(state: ServerState, body: PoolingRequest, deadline: float) -> Pending:
    check_task(state.run, body.task or state.run.config.engine.task, f"/pooling with task={body.task}")
    check_dimensions(state, body.dimensions)
    return await _compute(state, body, deadline)


def _pooled(state: ServerState, body: PoolingRequest, pending: Pending) -> dict[str, Any]:
    rows = shortened(pending.rows, body.dimensions)
    if state.run.classifies:
        rows = activated(rows, activation_of(state.run.model, body.use_activation is not False))
    data = [
        {"index": index, "object": "pooling", "data": row}
        for index, row in enumerate(encoded(rows, body.encoding_format))
    ]
    return _listed(state, "pool", data, pending)


def _listed(state: ServerState, prefix: str, data: list[dict[str, Any]], pending: Pending) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": "list",
        "created": state.now(),
        "model": state.run.served_name,
        "data": data,
        "usage": usage_of(state, pending),
    }


# The likeliest label of every input with the probabilities of all; and the bare numbers: a vector, or probabilities.
CLASSIFY = Endpoint(ClassifyRequest, _classify, _labels)
POOLING = Endpoint(PoolingRequest, _pool, _pooled)
ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/classify": CLASSIFY,
    "/v1/classify": CLASSIFY,
    "/pooling": POOLING,
    "/v1/pooling": POOLING,
}
