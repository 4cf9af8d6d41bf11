"""What text-embeddings-inference's clients send, and how they are answered: /embed, /predict, /similarity."""

from typing import Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sendnn_pipeline.server.answering import Endpoint, answer
from sendnn_pipeline.server.cut import Cut, type_side
from sendnn_pipeline.server.embeddings import check_dimensions, shortened, unit
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import TEI, ApiError, check_task
from sendnn_pipeline.server.inputs import pair_items_of, token_ids_of, type_input
from sendnn_pipeline.server.scoring import PairItems, Pairs, activated, activation_of, scores_of
from sendnn_pipeline.server.state import ServerState

type_direction = Literal["Left", "Right", "left", "right"]


class EmbedRequest(msgspec.Struct):
    """The body of /embed."""

    inputs: type_input
    normalize: bool = True
    truncate: bool = False
    truncation_direction: type_direction = "Right"
    prompt_name: str | None = None
    dimensions: int | None = None


class PredictRequest(msgspec.Struct):
    """The body of /predict: a text; two texts, which are one pair; or a list of lists of one or two."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False
    truncate: bool = False
    truncation_direction: type_direction = "Right"


class Sentences(msgspec.Struct):
    """A text and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct):
    """How texts are read."""

    truncate: bool = False
    truncation_direction: type_direction = "Right"
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct):
    """The body of /similarity."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


def speak(request: Request) -> None:
    """Have errors of this request written in their form."""
    request.scope[TEI] = True


def cut_of(state: ServerState, truncate: bool, direction: type_direction) -> Cut:
    """Return how much of the texts is kept."""
    return Cut(whole=state.longest if truncate else None, side=_side(direction))


def _side(direction: type_direction) -> type_side:
    return "left" if direction.lower() == "left" else "right"


async def embed(request: Request) -> Response:
    """Answer with bare vectors."""
    speak(request)
    return await answer(request, Endpoint(EmbedRequest, _embed, _vectors))


async def _embed(state: ServerState, body: EmbedRequest, deadline: float) -> Pending:
    check_task(state.run, "embed", "/embed")
    check_dimensions(state, body.dimensions)
    if not body.normalize and state.run.config.engine.normalize:
        raise ApiError(
            400,
            f"normalize=false, and the vectors of {state.run.served_name} are normalized as it asks "
            "(engine.normalize=false overrides)",
            param="normalize",
            code="unsupported_value",
        )
    prompt = prompt_of(state, body.prompt_name)
    inputs = body.inputs
    if prompt and isinstance(inputs, str):
        inputs = prompt + inputs
    elif prompt and isinstance(inputs, list):
        inputs = [prompt + item if isinstance(item, str) and item else item for item in inputs]
    truncate, side = -1 if body.truncate else None, _side(body.truncation_direction)
    ids = await token_ids_of(state, inputs, truncate, name="inputs", side=side)
    return await state.engine.compute(ids, deadline)


def _vectors(state: ServerState, body: EmbedRequest, pending: Pending) -> Any:
    vectors = shortened(pending.rows, body.dimensions)
    return unit(vectors) if body.normalize and not state.run.config.engine.normalize else vectors


def prompt_of(state: ServerState, name: str | None) -> str:
    """Return the text that goes before each input: the named prompt, or the one that the model means by default.

    Raises:
        ApiError: 400, the model has no prompt of that name.
    """
    prompts, chosen = state.run.model.prompts, name or state.run.model.default_prompt
    if chosen is None:
        return ""
    if chosen not in prompts:
        known = f"it has {', '.join(prompts)}" if prompts else "it has none"
        raise ApiError(400, f"the model has no prompt {chosen}; {known}", param="prompt_name", code="invalid_value")
    return prompts[chosen]


async def similarity(request: Request) -> Response:
    """Answer with the similarity of one sentence to each of the others."""
    speak(request)
    return await answer(request, Endpoint(SimilarityRequest, _compare, _similarities))


def _sentences(state: ServerState, body: SimilarityRequest) -> Pairs:
    prompt = prompt_of(state, body.parameters.prompt_name if body.parameters else None)
    source, others = body.inputs.source_sentence, body.inputs.sentences
    return Pairs([prompt + source if source else ""], [prompt + other if other else "" for other in others])


async def _compare(state: ServerState, body: SimilarityRequest, deadline: float) -> Pending:
    check_task(state.run, "embed", "/similarity")
    parameters = body.parameters or SimilarityParameters()
    cut = cut_of(state, parameters.truncate, parameters.truncation_direction)
    asked = await pair_items_of(state, _sentences(state, body), cut, ("source_sentence", "sentences"))
    return await state.engine.compute(asked.items, deadline)


def _similarities(state: ServerState, body: SimilarityRequest, pending: Pending) -> Any:
    return scores_of(state.run, _sentences(state, body), pending.rows, "identity")


async def predict(request: Request) -> Response:
    """Answer with every label and its score, the likeliest first."""
    speak(request)
    return await answer(request, Endpoint(PredictRequest, _predict, _predictions))


async def _predict(state: ServerState, body: PredictRequest, deadline: float) -> Pending:
    check_task(state.run, "classify", "/predict")
    cut = cut_of(state, body.truncate, body.truncation_direction)
    inputs = _sequences(body)
    alone = [given[0] for given in inputs if len(given) == 1]
    pairs = Pairs([given[0] for given in inputs if len(given) == 2], [given[1] for given in inputs if len(given) == 2])
    truncate = -1 if body.truncate else None
    singles = iter(await token_ids_of(state, list(alone), truncate, name="inputs", side=cut.side) if alone else [])
    asked = await pair_items_of(state, pairs, cut, ("inputs", "inputs")) if pairs.seconds else PairItems([], [])
    begins = asked.second_at or [0] * len(asked.items)
    doubles = iter(zip(asked.items, begins, strict=True))
    rows = [(next(singles), 0) if len(given) == 1 else next(doubles) for given in inputs]
    return await state.engine.compute([ids for ids, _ in rows], deadline, [second for _, second in rows])


def _sequences(body: PredictRequest) -> list[list[str]]:
    """Return one or two texts for each input; a flat list of two texts is one pair, never a batch.

    Raises:
        ApiError: 400, the list is of another form.
    """
    given: Any = body.inputs
    if isinstance(given, str):
        return [[given]]
    if given and all(isinstance(item, str) for item in given):
        given = [given]
    if not given or not all(isinstance(item, list) and len(item) in (1, 2) for item in given):
        raise ApiError(
            400,
            "inputs is neither a text, nor a pair of texts, nor a list of lists of one or two texts",
            param="inputs",
            code="invalid_value",
        )
    return list(given)


def _predictions(state: ServerState, body: PredictRequest, pending: Pending) -> Any:
    labels = state.run.model.labels
    # Of one label theirs is always the sigmoid.
    activation = "sigmoid" if len(labels) == 1 else activation_of(state.run.model, use_activation=True)
    scores = activated(pending.rows, "identity" if body.raw_scores else activation)
    answers = [
        [{"label": labels[place], "score": float(row[place])} for place in np.argsort(-row, kind="stable")]
        for row in scores
    ]
    batched = isinstance(body.inputs, list) and isinstance(body.inputs[0], list)
    return answers if batched else answers[0]


routes = [
    Route("/embed", embed, methods=["POST"]),
    Route("/similarity", similarity, methods=["POST"]),
    Route("/predict", predict, methods=["POST"]),
]
