"""Texts as clients of scoring write them."""

from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.pooling.api.field import Field
from sendnn_pipeline.pooling.api.inputs import plan_of

Text = str | dict[str, Any]
Texts = str | list[Text]


def texts_of(texts: Texts | Text | Sequence[Text], field: Field) -> list[str]:
    """Return texts, written as such or as objects with ``text``.

    Raises:
        RequestError: 400, an object has none.
    """
    items: Sequence[Any] = [texts] if isinstance(texts, str | dict) else texts
    found = []
    for index, item in enumerate(items):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            param = field.item(index)
            raise RequestError(
                400, f"{param} is neither a string nor an object with text", param=param, code="invalid_value"
            )
        found.append(text)
    return found


def check_scores(front: Frontend, route: str) -> None:
    """Refuse a classifier that gives no single score, and a model that is made to generate text.

    Raises:
        RequestError: 400.
    """
    plan = plan_of(front)
    labels = plan.facts.labels
    if plan.facts.generates and not plan.classifies:
        raise RequestError(
            400,
            f"{front.run.served_name} generates text: its hidden states were not trained to be compared, so "
            f"that {route} would rank by nothing; such a reranker needs a checkpoint for sequence classification",
            code="unsupported_task",
        )
    if plan.classifies and len(labels) != 1:
        raise RequestError(
            400,
            f"{front.run.served_name} gives {len(labels)} labels, and {route} needs a cross-encoder of one or a model "
            "of embeddings; /classify gives labels",
            code="unsupported_task",
        )
