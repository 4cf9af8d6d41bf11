"""POST /classify and POST /pooling: labels with their probabilities, and whatever the model gives."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.bodies import Count, CountOrFitting
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Bench, BenchItems, Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.frontend import Frontend, Usage
from sendnn_pipeline.pooling.api.embeddings import ASKED_BY, check_dimensions, text_of_line
from sendnn_pipeline.pooling.api.inputs import EmbeddingInput, check_task, plan_of
from sendnn_pipeline.pooling.api.pairs import activation_of
from sendnn_pipeline.pooling.api.prompts import prepare_texts, prompt_before
from sendnn_pipeline.pooling.api.rows import (
    EncodingFormat,
    Rows,
    apply_activation,
    encode_rows,
    gather_rows,
    gather_vectors,
)
from sendnn_pipeline.pooling.config import Task
from sendnn_pipeline.pooling.plan import pooling_plan
from sendnn_pipeline.pooling.rankings import benches_rankings


class ClassifyRequest(msgspec.Struct):
    """The body of /classify."""

    input: EmbeddingInput
    model: str | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: CountOrFitting | None = None
    user: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    add_special_tokens: bool = True


class PoolingRequest(ClassifyRequest):
    """The body of /pooling."""

    task: str | None = None
    encoding_format: EncodingFormat = "float"
    dimensions: Count | None = None
    normalize: bool | None = None


class Label(TypedDict):
    """The likeliest label of one input, with the probabilities of all."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class Numbers(TypedDict):
    """What the model gives for one input: a vector, probabilities or logits."""

    index: int
    object: Literal["pooling"]
    data: list[float] | str


class Head(TypedDict):
    """What lists have beside their entries."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    usage: Usage


class Labels(Head):
    """The answer of /classify."""

    data: list[Label]


class Pooled(Head):
    """The answer of /pooling."""

    data: list[Numbers]


async def _prepare_classify(front: Frontend, body: ClassifyRequest) -> Prepared:
    check_task(front, Task.classify, "/classify")
    return await _prepare(front, body)


async def _prepare(front: Frontend, body: ClassifyRequest) -> Prepared:
    front.check_model(body.model)
    prompt = prompt_before(front, body.input, body.prompt_name, body.input_type)
    cut, special = body.truncate_prompt_tokens, body.add_special_tokens
    return await prepare_texts(front, body.input, cut, prompt=prompt, special=special)


async def _render_labels(front: Frontend, body: ClassifyRequest, call: Call) -> Labels:
    plan = plan_of(front)
    labels = plan.facts.labels
    activation = activation_of(plan, use_activation=body.use_activation is not False)
    logits = await gather_rows(call)
    # By logits: an activation makes equal probabilities of those that are large.
    best = logits.argmax(axis=1)
    data = [
        Label(index=index, label=labels[best[index]], probs=row.tolist(), num_classes=len(labels))
        for index, row in enumerate(apply_activation(logits, activation))
    ]
    return {**_head(front, "classify", call), "data": data}


async def _prepare_pooling(front: Frontend, body: PoolingRequest) -> Prepared:
    check_task(front, body.task or plan_of(front).task, f"/pooling with task={body.task}")
    check_dimensions(front, body.dimensions)
    return await _prepare(front, body)


async def _render_rows(front: Frontend, body: PoolingRequest, call: Call) -> Pooled:
    plan = plan_of(front)
    if plan.classifies:
        activation = activation_of(plan, use_activation=body.use_activation is not False)
        rows = apply_activation(await gather_rows(call), activation)
    else:
        rows = await gather_vectors(front, call, body.dimensions, body.normalize)
    encoded = enumerate(encode_rows(rows, body.encoding_format))
    data = [Numbers(index=index, object="pooling", data=row) for index, row in encoded]
    return {**_head(front, "pool", call), "data": data}


def _head(front: Frontend, prefix: str, call: Call) -> Head:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": "list",
        "created": front.now(),
        "model": front.run.served_name,
        "usage": front.usage(call),
    }


def _ask(front: Frontend, line: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    return text_of_line(line, ClassifyRequest) if plan_of(front).task == Task.classify else None


def _fields(_body: ClassifyRequest, content: Any) -> dict[str, Any]:
    named = [{"label": entry["label"], "probs": entry["probs"]} for entry in content["data"]]
    return named[0] if len(named) == 1 else {"labels": named}


def _probabilities(content: Any) -> Rows:
    return np.array([entry["probs"] for entry in content["data"]], np.float32)


def _bench_body(run: Run, items: BenchItems) -> dict[str, Any]:
    inputs = [list(ids) for ids in items.token_ids]
    return {"model": run.served_name, "truncate_prompt_tokens": -1, "input": inputs}


# The likeliest label of every input with the probabilities of all; and the bare numbers: a vector, or probabilities.
CLASSIFY = Endpoint(
    ClassifyRequest,
    _prepare_classify,
    _render_labels,
    answer=Labels,
    summary="The likeliest label of each text, with the probabilities of all.",
    lines=Lines(_ask, _fields, _probabilities, lambda run: pooling_plan(run).output_size, ASKED_BY),
    bench=Bench(lambda run: pooling_plan(run).classifies and not benches_rankings(run), _bench_body),
)
POOLING = Endpoint(
    PoolingRequest,
    _prepare_pooling,
    _render_rows,
    answer=Pooled,
    summary="The numbers that the model gives for each text: a vector, or probabilities.",
)
ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/classify": CLASSIFY,
    "/classify": CLASSIFY,
    "/v1/pooling": POOLING,
    "/pooling": POOLING,
}
