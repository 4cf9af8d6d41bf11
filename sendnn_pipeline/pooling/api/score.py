"""POST /score: a score for each pair, as vLLM writes them."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import msgspec

from sendnn_pipeline.frontend.bodies import Count, CountOrFitting
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend, Usage
from sendnn_pipeline.frontend.truncation import Truncation
from sendnn_pipeline.pooling.api.field import Field
from sendnn_pipeline.pooling.api.inputs import plan_of, resolve_truncation
from sendnn_pipeline.pooling.api.pairs import Pairs, activation_of, prepare_pairs, scores_of
from sendnn_pipeline.pooling.api.prompts import prompt_of
from sendnn_pipeline.pooling.api.rows import gather_rows
from sendnn_pipeline.pooling.api.texts import Texts, check_scores, texts_of

FIRSTS = ("queries", "text_1", "data_1")
SECONDS = ("documents", "text_2", "data_2", "items")


class ScoreRequest(msgspec.Struct):
    """The body of /score; both sides have several names."""

    model: str | None = None
    queries: Texts | None = None
    text_1: Texts | None = None
    data_1: Texts | None = None
    documents: Texts | None = None
    text_2: Texts | None = None
    data_2: Texts | None = None
    items: Texts | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: CountOrFitting | None = None
    max_tokens_per_query: Count | None = None
    max_tokens_per_doc: Count | None = None
    prompt_name: str | None = None

    def sides(self) -> tuple[Pairs, tuple[Field, Field]]:
        """Return the texts of both sides, and their fields.

        Raises:
            RequestError: 400, a side is missing or sent twice, or the numbers of texts do not fit.
        """
        first, second = Field(self._name(*FIRSTS)), Field(self._name(*SECONDS))
        firsts, seconds = (texts_of(getattr(self, field.name), field) for field in (first, second))
        if len(firsts) not in (1, len(seconds)):
            raise RequestError(
                400,
                f"{first.name} has {len(firsts)} texts and {second.name} {len(seconds)}; give one, or as many",
                param=first.name,
                code="invalid_value",
            )
        return Pairs(firsts, seconds), (first, second)

    def _name(self, *aliases: str) -> str:
        present = [name for name in aliases if getattr(self, name) is not None]
        if len(present) != 1:
            wrong = " and ".join(present) + " are the same field" if present else f"{aliases[0]} is missing"
            raise RequestError(400, wrong, param=(present or aliases)[0], code="invalid_value")
        return present[0]


class Score(TypedDict):
    """The score of one pair."""

    index: int
    object: Literal["score"]
    score: float


class Scores(TypedDict):
    """The answer of /score."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: Usage


async def _prepare(front: Frontend, body: ScoreRequest) -> Prepared:
    front.check_model(body.model)
    check_scores(front, "/score")
    pairs, fields = body.sides()
    truncation = pair_truncation(front, body.max_tokens_per_query, body.max_tokens_per_doc, body.truncate_prompt_tokens)
    return await prepare_pairs(front, pairs, truncation, fields, prompt_of(front, body.prompt_name))


def pair_truncation(front: Frontend, query: int | None, document: int | None, whole: int | None) -> Truncation:
    """Return how much of a query, of a document, and of both together is read.

    Raises:
        RequestError: 400, ``whole`` is more than a Program takes.
    """
    limit = resolve_truncation(front, whole, pairs=plan_of(front).classifies)
    return Truncation(query, document, limit)


async def _render(front: Frontend, body: ScoreRequest, call: Call) -> Scores:
    plan = plan_of(front)
    activation = activation_of(plan, use_activation=body.use_activation is not False)
    scores = scores_of(plan, body.sides()[0], await gather_rows(call), activation)
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": front.now(),
        "model": front.run.served_name,
        "data": [Score(index=index, object="score", score=float(score)) for index, score in enumerate(scores)],
        "usage": front.usage(call),
    }


def _ask(_front: Frontend, line: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    if "query" not in line or "documents" not in line:
        return None
    asked = (frozenset(ScoreRequest.__struct_fields__) - {*FIRSTS, *SECONDS} | {"documents"}) & line.keys()
    return {"queries": line["query"], **{name: line[name] for name in asked}}, asked


def _fields(_body: ScoreRequest, content: Any) -> dict[str, Any]:
    return {"scores": [entry["score"] for entry in content["data"]]}


SCORE = Endpoint(
    ScoreRequest,
    _prepare,
    _render,
    answer=Scores,
    summary="A score for each pair of texts.",
    lines=Lines(_ask, _fields, asked_by=(frozenset({"query", "documents"}),)),
)
ENDPOINTS: dict[str, Endpoint[Any]] = {"/v1/score": SCORE, "/score": SCORE}
