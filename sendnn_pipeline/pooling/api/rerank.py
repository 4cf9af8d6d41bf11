"""POST /rerank: rankings, as vLLM, Jina and Cohere write them; with ``texts``, as text-embeddings-inference does."""

import math
import uuid
from typing import Any, NotRequired, TypedDict

import msgspec
import numpy as np

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.bodies import Count, CountOrAll, CountOrFitting, check_beside
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Bench, BenchItems, Endpoint, Prepared
from sendnn_pipeline.frontend.errors import ErrorForm, OpenAIError, RequestError, openai_error
from sendnn_pipeline.frontend.frontend import Frontend, Usage
from sendnn_pipeline.frontend.tei_errors import TeiError, tei_error
from sendnn_pipeline.pooling.api.field import Field
from sendnn_pipeline.pooling.api.inputs import plan_of
from sendnn_pipeline.pooling.api.pairs import Pairs, activation_of, prepare_pairs, scores_of
from sendnn_pipeline.pooling.api.prompts import prompt_of
from sendnn_pipeline.pooling.api.rows import gather_rows
from sendnn_pipeline.pooling.api.score import pair_truncation
from sendnn_pipeline.pooling.api.tei_form import Direction, tei_truncation
from sendnn_pipeline.pooling.api.texts import Text, check_scores, texts_of
from sendnn_pipeline.pooling.rankings import benches_rankings

# What only one of the two forms has: that of documents, and that of texts.
OF_DOCUMENTS = ("documents", "use_activation", "truncate_prompt_tokens", "max_tokens_per_query", "max_tokens_per_doc")
OF_TEXTS = ("texts", "raw_scores", "return_text", "truncate", "truncation_direction")
# Documents that Cohere counts as one unit of search.
SEARCH_UNIT = 100
QUERY = Field("query", is_one=True)


class RerankRequest(msgspec.Struct):
    """The body of /rerank; with ``texts`` instead of ``documents`` it is text-embeddings-inference's."""

    query: Text
    documents: list[Text] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: CountOrAll | None = None
    return_documents: bool | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: CountOrFitting | None = None
    max_tokens_per_query: Count | None = None
    max_tokens_per_doc: Count | None = None
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None

    @property
    def ranked(self) -> Field:
        """What holds what is ranked."""
        return Field("documents" if self.texts is None else "texts")

    def pairs(self) -> Pairs:
        """Return the query with what is ranked.

        Raises:
            RequestError: 400, nothing is to be ranked, or a text is not one.
        """
        ranked = self.documents if self.texts is None else self.texts
        if ranked is None:
            raise RequestError(400, "documents is missing", param="documents", code="invalid_value")
        return Pairs(texts_of(self.query, QUERY), texts_of(ranked, self.ranked))


class Document(TypedDict):
    """What was ranked."""

    text: str


class Ranked(TypedDict):
    """A document's index in the request."""

    index: int
    document: NotRequired[Document]
    relevance_score: float


class Ranking(TypedDict):
    """The answer to ``documents``, the best first."""

    id: str
    model: str
    usage: Usage
    results: list[Ranked]


class CohereRanking(TypedDict):
    """The same as Cohere's second version writes it."""

    id: str
    results: list[Ranked]
    meta: dict[str, Any]


class TeiRanked(TypedDict):
    """A text's index, as text-embeddings-inference writes it."""

    index: int
    score: float
    text: NotRequired[str]


async def _prepare(front: Frontend, body: RerankRequest) -> Prepared:
    front.check_model(body.model)
    check_scores(front, "/rerank")
    check_beside(body, body.ranked.name, OF_TEXTS if body.texts is None else OF_DOCUMENTS)
    if body.texts is None:
        truncation = pair_truncation(
            front, body.max_tokens_per_query, body.max_tokens_per_doc, body.truncate_prompt_tokens
        )
    else:
        truncation = tei_truncation(front, body.truncate, body.truncation_direction)
    prompt = prompt_of(front, body.prompt_name)
    return await prepare_pairs(front, body.pairs(), truncation, (QUERY, body.ranked), prompt)


async def _prepare_truncated(front: Frontend, body: RerankRequest) -> Prepared:
    """Cut what is too long, as Cohere's second version does."""
    if body.texts is not None:
        raise RequestError(400, "texts is not for /v2/rerank: send documents", param="texts", code="unsupported_value")
    if body.truncate_prompt_tokens is None:
        body.truncate_prompt_tokens = -1
    return await _prepare(front, body)


async def _rank(front: Frontend, body: RerankRequest, call: Call, activation: str) -> list[tuple[int, float]]:
    """Return index and score, the best first, equal ones in their order."""
    plan, pairs, rows = plan_of(front), body.pairs(), await gather_rows(call)
    # By logits: an activation makes equal scores of those that are large.
    order = np.argsort(-scores_of(plan, pairs, rows, "identity"), kind="stable")[: body.top_n or None]
    scores = scores_of(plan, pairs, rows, activation)
    return [(int(index), float(scores[index])) for index in order]


async def _rank_as_asked(front: Frontend, body: RerankRequest, call: Call) -> list[tuple[int, float]]:
    return await _rank(
        front, body, call, activation_of(plan_of(front), use_activation=body.use_activation is not False)
    )


async def _render(front: Frontend, body: RerankRequest, call: Call) -> Ranking | list[TeiRanked]:
    """Answer as the body asks: with ``documents``, or with ``texts`` as text-embeddings-inference."""
    if body.texts is not None:
        ranked = await _rank(front, body, call, "identity" if body.raw_scores else "sigmoid")
        texts = [TeiRanked(index=index, score=score) for index, score in ranked]
        for entry in texts if body.return_text or body.return_documents else ():
            entry["text"] = body.texts[entry["index"]]
        return texts
    documents = body.pairs().seconds
    results = [Ranked(index=index, relevance_score=score) for index, score in await _rank_as_asked(front, body, call)]
    for result in results if body.return_documents is not False else ():
        result["document"] = {"text": documents[result["index"]]}
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "model": front.run.served_name,
        "usage": front.usage(call),
        "results": results,
    }


async def _render_cohere(front: Frontend, body: RerankRequest, call: Call) -> CohereRanking:
    ranked = await _rank_as_asked(front, body, call)
    documents = body.pairs().seconds
    results = [Ranked(index=index, relevance_score=score) for index, score in ranked]
    for result in results if body.return_documents else ():
        result["document"] = {"text": documents[result["index"]]}
    units = math.ceil(len(documents) / SEARCH_UNIT)
    return {
        "id": str(uuid.uuid4()),
        "results": results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
    }


def _error_form(body: RerankRequest | None) -> ErrorForm:
    return openai_error if body is None or body.texts is None else tei_error


def _bench_body(run: Run, items: BenchItems) -> dict[str, Any]:
    named = {"model": run.served_name, "truncate_prompt_tokens": -1, "return_documents": False}
    return {**named, "query": items.query, "documents": list(items.texts)}


RERANK = Endpoint(
    RerankRequest,
    _prepare,
    _render,
    answer=Ranking | list[TeiRanked],
    summary="Documents in the order in which they answer a query, the best first.",
    error_form=_error_form,
    errors=(OpenAIError, TeiError),
    bench=Bench(benches_rankings, _bench_body),
)
COHERE_RERANK = Endpoint(
    RerankRequest,
    _prepare_truncated,
    _render_cohere,
    answer=CohereRanking,
    summary="The same for Cohere's client; long documents are cut.",
)
ENDPOINTS: dict[str, Endpoint[Any]] = {"/v1/rerank": RERANK, "/rerank": RERANK, "/v2/rerank": COHERE_RERANK}
