"""What text-embeddings-inference's clients send, and how they are answered: /embed, /predict, /similarity."""

from dataclasses import replace
from typing import Any, TypedDict

import msgspec
import numpy as np

from sendnn_pipeline.frontend.bodies import Count
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint, Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.tei_errors import TeiError, always_tei
from sendnn_pipeline.pooling.api.embeddings import check_dimensions
from sendnn_pipeline.pooling.api.field import INPUTS, Field
from sendnn_pipeline.pooling.api.inputs import EmbeddingInput, check_task, encode_inputs, plan_of, prepare_items
from sendnn_pipeline.pooling.api.pairs import Pairs, activation_of, encode_pairs, prepare_pairs, scores_of
from sendnn_pipeline.pooling.api.prompts import prepare_texts, prompt_before, prompt_of
from sendnn_pipeline.pooling.api.rows import apply_activation, gather_rows, gather_vectors
from sendnn_pipeline.pooling.api.tei_form import Direction, side_of, tei_truncation, truncates
from sendnn_pipeline.pooling.config import Task

SIDES = (Field("source_sentence", is_one=True), Field("sentences"))


class EmbedRequest(msgspec.Struct):
    """The body of /embed."""

    inputs: EmbeddingInput
    normalize: bool = True
    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None
    dimensions: Count | None = None


class EmbedAllRequest(msgspec.Struct):
    """The body of /embed_all."""

    inputs: EmbeddingInput
    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None


class PredictRequest(msgspec.Struct):
    """The body of /predict: a text; two texts, which are one pair; or a list of lists of one or two."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False
    truncate: bool | None = None
    truncation_direction: Direction = "Right"


class Sentences(msgspec.Struct):
    """A text and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct):
    """How texts are read."""

    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct):
    """The body of /similarity."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


class Prediction(TypedDict):
    """A label and its probability, or its logit."""

    label: str
    score: float


async def _prepare_embed(front: Frontend, body: EmbedRequest) -> Prepared:
    check_task(front, Task.embed, "/embed")
    check_dimensions(front, body.dimensions)
    truncate, side = -1 if truncates(front, body.truncate) else None, side_of(body.truncation_direction)
    prompt = prompt_before(front, body.inputs, body.prompt_name)
    return await prepare_texts(front, body.inputs, truncate, prompt=prompt, field=INPUTS, side=side)


async def _render_vectors(front: Frontend, body: EmbedRequest, call: Call) -> Any:
    return await gather_vectors(front, call, body.dimensions, body.normalize)


async def _refuse_embed_all(front: Frontend, _body: EmbedAllRequest) -> Prepared:
    raise RequestError(
        400,
        f"{front.run.served_name} gives one vector for a text, pooled within its Programs, and none for each token; "
        "use /embed",
        code="unsupported_task",
    )


def _sentences(body: SimilarityRequest) -> Pairs:
    return Pairs([body.inputs.source_sentence], body.inputs.sentences)


async def _prepare_similarity(front: Frontend, body: SimilarityRequest) -> Prepared:
    check_task(front, Task.embed, "/similarity")
    parameters = body.parameters or SimilarityParameters()
    truncation = tei_truncation(front, parameters.truncate, parameters.truncation_direction)
    prompt = prompt_of(front, parameters.prompt_name)
    return await prepare_pairs(front, _sentences(body), truncation, SIDES, prompt)


async def _render_similarities(front: Frontend, body: SimilarityRequest, call: Call) -> Any:
    return scores_of(plan_of(front), _sentences(body), await gather_rows(call), "identity")


async def _prepare_predict(front: Frontend, body: PredictRequest) -> Prepared:
    check_task(front, Task.classify, "/predict")
    truncation = tei_truncation(front, body.truncate, body.truncation_direction)
    inputs = _sequences(body)
    field = Field("inputs", is_one=not _is_batch(body))
    alone, double = ([i for i, texts in enumerate(inputs) if len(texts) == length] for length in (1, 2))
    pairs = Pairs([inputs[index][0] for index in double], [inputs[index][1] for index in double])
    truncate, prompt = None if truncation.whole is None else -1, prompt_of(front)
    found: dict[int, tuple[list[int], int]] = {}
    if alone:
        texts: EmbeddingInput = [inputs[index][0] for index in alone]
        some = replace(field, indexes=alone)
        ids = await encode_inputs(front, texts, truncate, field=some, side=truncation.side, prompt=prompt)
        found |= {index: (one, 0) for index, one in zip(alone, ids, strict=True)}
    if double:
        some = replace(field, indexes=double)
        items, offsets = await encode_pairs(front, pairs, truncation, (some, some), prompt)
        found |= dict(zip(double, zip(items, offsets, strict=True), strict=True))
    rows = [found[index] for index in range(len(inputs))]
    return prepare_items([ids for ids, _ in rows], field, field.item, [offset for _, offset in rows])


def _sequences(body: PredictRequest) -> list[list[str]]:
    """Return one or two texts for each input; a flat list of two texts is one pair, never a batch.

    Raises:
        RequestError: 400, the list is of another form.
    """
    inputs: Any = body.inputs
    if isinstance(inputs, str):
        return [[inputs]]
    if inputs and all(isinstance(item, str) for item in inputs):
        inputs = [inputs]
    if not inputs or not all(isinstance(item, list) and len(item) in (1, 2) for item in inputs):
        raise RequestError(
            400,
            "inputs is neither a text, nor a pair of texts, nor a list of lists of one or two texts",
            param="inputs",
            code="invalid_value",
        )
    return list(inputs)


def _is_batch(body: PredictRequest) -> bool:
    return isinstance(body.inputs, list) and isinstance(body.inputs[0], list)


async def _render_predictions(front: Frontend, body: PredictRequest, call: Call) -> Any:
    plan = plan_of(front)
    labels = plan.facts.labels
    # Of one label theirs is always the sigmoid.
    activation = "sigmoid" if len(labels) == 1 else activation_of(plan, use_activation=True)
    logits = await gather_rows(call)
    scores = logits if body.raw_scores else apply_activation(logits, activation)
    answers = [
        [Prediction(label=labels[index], score=float(row[index])) for index in order]
        for row, order in zip(scores, np.argsort(-logits, kind="stable"), strict=True)
    ]
    return answers if _is_batch(body) else answers[0]


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/embed": Endpoint(
        EmbedRequest,
        _prepare_embed,
        _render_vectors,
        answer=list[list[float]],
        summary="Vectors of texts.",
        error_form=always_tei,
        errors=(TeiError,),
    ),
    "/embed_all": Endpoint(
        EmbedAllRequest,
        _refuse_embed_all,
        _render_vectors,
        answer=list[list[list[float]]],
        summary="A vector for each token: refused, since vectors are pooled where they are computed.",
        error_form=always_tei,
        errors=(TeiError,),
    ),
    "/similarity": Endpoint(
        SimilarityRequest,
        _prepare_similarity,
        _render_similarities,
        answer=list[float],
        summary="How similar texts are to one.",
        error_form=always_tei,
        errors=(TeiError,),
    ),
    "/predict": Endpoint(
        PredictRequest,
        _prepare_predict,
        _render_predictions,
        answer=list[Prediction | list[Prediction]],
        summary="The labels of texts or pairs, the likeliest first.",
        error_form=always_tei,
        errors=(TeiError,),
    ),
}
