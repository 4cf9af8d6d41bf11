"""Scores and rankings, as vLLM, Jina and Cohere write them; ``/rerank`` also as text-embeddings-inference does."""

import math
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sendnn_pipeline.server import tei
from sendnn_pipeline.server.answering import Endpoint, answer, check_model, usage_of
from sendnn_pipeline.server.cut import Cut
from sendnn_pipeline.server.engine_client import Pending
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.inputs import limit_of, pair_items_of
from sendnn_pipeline.server.scoring import Pairs, activation_of, scores_of
from sendnn_pipeline.server.state import ServerState

type_text = str | dict[str, Any]
type_texts = str | list[type_text]
# Documents that Cohere counts as one unit of search.
SEARCH_UNIT = 100


class ScoreRequest(msgspec.Struct):
    """The body of /score; both sides have several names."""

    model: str | None = None
    queries: type_texts | None = None
    text_1: type_texts | None = None
    data_1: type_texts | None = None
    documents: type_texts | None = None
    text_2: type_texts | None = None
    data_2: type_texts | None = None
    items: type_texts | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None

    def sides(self) -> tuple[Pairs, tuple[str, str]]:
        """Return the texts of both sides and the names of their fields.

        Raises:
            ApiError: 400, a side is missing or said twice, or the numbers of texts do not fit.
        """
        names = [self._name(*aliases) for aliases in (FIRSTS, SECONDS)]
        firsts, seconds = (texts_of(getattr(self, name), name) for name in names)
        if len(firsts) not in (1, len(seconds)):
            raise ApiError(
                400,
                f"{names[0]} has {len(firsts)} texts and {names[1]} {len(seconds)}; give one, or as many",
                param=names[0],
                code="invalid_value",
            )
        return Pairs(firsts, seconds), (names[0], names[1])

    def _name(self, *aliases: str) -> str:
        said = [name for name in aliases if getattr(self, name) is not None]
        if len(said) != 1:
            wrong = " and ".join(said) + " are the same field" if said else f"{aliases[0]} is missing"
            raise ApiError(400, wrong, param=(said or aliases)[0], code="invalid_value")
        return said[0]


FIRSTS = ("queries", "text_1", "data_1")
SECONDS = ("documents", "text_2", "data_2", "items")


class RerankRequest(msgspec.Struct):
    """The body of /rerank; with ``texts`` in place of ``documents`` it is text-embeddings-inference's."""

    query: type_text
    documents: list[type_text] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool = False
    truncation_direction: tei.type_direction = "Right"


async def _score(state: ServerState, body: ScoreRequest, deadline: float) -> Pending:
    check_model(state, body.model)
    check_scores(state, "/score")
    pairs, names = body.sides()
    asked = await pair_items_of(state, pairs, _cut_of(state, body), names)
    return await state.engine.compute(asked.items, deadline, asked.second_at)


def _scores(state: ServerState, body: ScoreRequest, pending: Pending) -> dict[str, Any]:
    activation = activation_of(state.run.model, body.use_activation is not False)
    scores = scores_of(state.run, body.sides()[0], pending.rows, activation)
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": state.now(),
        "model": state.run.served_name,
        "data": [{"index": index, "object": "score", "score": float(score)} for index, score in enumerate(scores)],
        "usage": usage_of(state, pending),
    }


async def create_any_ranking(request: Request) -> Response:
    """Answer as the body asks: with ``documents``, or with ``texts`` as text-embeddings-inference."""

    async def compute(state: ServerState, body: RerankRequest, deadline: float) -> Pending:
        if body.texts is None:
            return await _rank(state, body, deadline)
        tei.speak(request)
        cut = tei.cut_of(state, body.truncate, body.truncation_direction)
        return await _rank_pairs(state, body, deadline, cut, "texts")

    def render(state: ServerState, body: RerankRequest, pending: Pending) -> Any:
        if body.texts is None:
            return _ranking(state, body, pending)
        activation = "identity" if body.raw_scores else "sigmoid"
        return [
            {"index": index, "score": score} | ({"text": body.texts[index]} if body.return_text else {})
            for index, score in _ranked(state, body, pending, activation)
        ]

    return await answer(request, Endpoint(RerankRequest, compute, render))


async def _rank(state: ServerState, body: RerankRequest, deadline: float) -> Pending:
    return await _rank_pairs(state, body, deadline, _cut_of(state, body), "documents")


async def _rank_cut(state: ServerState, body: RerankRequest, deadline: float) -> Pending:
    """Cut what is too long, as Cohere's second version does."""
    if body.truncate_prompt_tokens is None:
        body.truncate_prompt_tokens = -1
    return await _rank(state, body, deadline)


async def _rank_pairs(state: ServerState, body: RerankRequest, deadline: float, cut: Cut, name: str) -> Pending:
    check_model(state, body.model)
    check_scores(state, "/rerank")
    if body.top_n is not None and body.top_n < 0:
        raise ApiError(400, f"top_n={body.top_n} must be 0 (all) or more", param="top_n", code="invalid_value")
    asked = await pair_items_of(state, _pairs_of(body, name), cut, ("query", name))
    return await state.engine.compute(asked.items, deadline, asked.second_at)


def _pairs_of(body: RerankRequest, name: str = "documents") -> Pairs:
    given = body.documents if name == "documents" else body.texts
    if given is None:
        raise ApiError(400, "documents is missing", param="documents", code="invalid_value")
    return Pairs(texts_of([body.query], "query"), texts_of(list(given), name))


def _ranked(state: ServerState, body: RerankRequest, pending: Pending, activation: str) -> list[tuple[int, float]]:
    """Return index and score, the best first, equal ones in their order."""
    pairs = _pairs_of(body, "documents" if body.texts is None else "texts")
    scores = scores_of(state.run, pairs, pending.rows, activation)
    order = np.argsort(-scores, kind="stable")[: body.top_n or None]
    return [(int(index), float(scores[index])) for index in order]


def _ranking(state: ServerState, body: RerankRequest, pending: Pending) -> dict[str, Any]:
    pairs = _pairs_of(body)
    shows = body.return_documents is not False
    ranked = _ranked(state, body, pending, activation_of(state.run.model, body.use_activation is not False))
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "model": state.run.served_name,
        "usage": usage_of(state, pending),
        "results": [
            {
                "index": index,
                **({"document": {"text": pairs.seconds[index]}} if shows else {}),
                "relevance_score": score,
            }
            for index, score in ranked
        ],
    }


def _cohere_ranking(state: ServerState, body: RerankRequest, pending: Pending) -> dict[str, Any]:
    ranked = _ranked(state, body, pending, activation_of(state.run.model, body.use_activation is not False))
    units = math.ceil(len(_pairs_of(body).seconds) / SEARCH_UNIT)
    return {
        "id": str(uuid.uuid4()),
        "results": [{"index": index, "relevance_score": score} for index, score in ranked],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
    }


def check_scores(state: ServerState, route: str) -> None:
    """Refuse a classifier that gives no single score.

    Raises:
        ApiError: 400.
    """
    labels = state.run.model.labels
    if state.run.classifies and len(labels) != 1:
        raise ApiError(
            400,
            f"{state.run.served_name} gives {len(labels)} labels, and {route} needs a cross-encoder of one or a model "
            "of embeddings; /classify gives labels",
            code="unsupported_task",
        )


def texts_of(given: type_texts | Sequence[type_text], name: str) -> list[str]:
    """Return texts, given as such or as objects with ``text``.

    Raises:
        ApiError: 400, an object has none.
    """
    items: Sequence[Any] = [given] if isinstance(given, str | dict) else given
    texts = []
    for index, item in enumerate(items):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            place = f"{name}[{index}]"
            raise ApiError(
                400, f"{place} is neither a string nor an object with text", param=place, code="invalid_value"
            )
        texts.append(text)
    return texts


def _cut_of(state: ServerState, body: ScoreRequest | RerankRequest) -> Cut:
    for name in ("max_tokens_per_query", "max_tokens_per_doc"):
        most = getattr(body, name)
        if most is not None and most < 1:
            raise ApiError(400, f"{name}={most} must be 1 or more", param=name, code="invalid_value")
    whole = limit_of(state, body.truncate_prompt_tokens, pairs=state.run.classifies)
    return Cut(body.max_tokens_per_query, body.max_tokens_per_doc, whole)


SCORE = Endpoint(ScoreRequest, _score, _scores)
RERANK = Endpoint(RerankRequest, _rank, _ranking)
COHERE_RERANK = Endpoint(RerankRequest, _rank_cut, _cohere_ranking)
ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/score": SCORE,
    "/v1/score": SCORE,
    "/v1/rerank": RERANK,
    "/v2/rerank": COHERE_RERANK,
}
routes = [Route("/rerank", create_any_ranking, methods=["POST"])]
