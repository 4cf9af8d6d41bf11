"""Pairs of texts and their scores: a cross-encoder reads both at once, a bi-encoder's are the cosine of two vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sendnn_pipeline.frontend.endpoint import Prepared
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.frontend.truncation import Truncation
from sendnn_pipeline.pooling.api.field import Field
from sendnn_pipeline.pooling.api.inputs import check_ids, check_texts, not_unicode, plan_of, prepare_items, too_long
from sendnn_pipeline.pooling.api.rows import Rows, apply_activation
from sendnn_pipeline.pooling.plan import PoolingPlan


@dataclass(frozen=True)
class Pairs:
    """Texts to be scored against each other: as many firsts as seconds, or one first for all."""

    firsts: Sequence[str]
    seconds: Sequence[str]


async def prepare_pairs(
    front: Frontend, pairs: Pairs, truncation: Truncation, fields: tuple[Field, Field], prompt: str
) -> Prepared:
    """Return what the engine is sent for pairs.

    Args:
        front: tokenizer and limits.
        pairs: the texts.
        truncation: how much of each is read.
        fields: both, for errors.
        prompt: goes before the first text of what a cross-encoder reads at once, else before both.

    Raises:
        RequestError: 400, naming the text that is at fault.
    """
    items, offsets = await encode_pairs(front, pairs, truncation, fields, prompt)
    return prepare_items(items, fields[1], _name_of(front, pairs, fields), offsets)


async def encode_pairs(
    front: Frontend, pairs: Pairs, truncation: Truncation, fields: tuple[Field, Field], prompt: str
) -> tuple[list[list[int]], list[int]]:
    """Return token ids: of every pair for a cross-encoder, of the firsts and then of the seconds for a bi-encoder.

    Raises:
        RequestError: 400, naming the text that is at fault.
    """
    for texts, field in zip((pairs.firsts, pairs.seconds), fields, strict=True):
        check_texts(texts, field)
    classifies = plan_of(front).classifies
    firsts = [prompt + text for text in pairs.firsts]
    try:
        if classifies:
            items, offsets = await front.tokenizer.encode_pairs(
                firsts, pairs.seconds, truncation, fits=front.max_input_tokens
            )
        else:
            seconds = [prompt + text for text in pairs.seconds]
            items = await _encode_each(front, Pairs(firsts, seconds), truncation)
            before = await front.tokenizer.count_before(prompt) if prompt and plan_of(front).excludes_prompt else 0
            offsets = [min(before, len(ids)) for ids in items]
    except TooLongError as error:
        raise too_long(front, fields[error.second].item(error.index), error.what) from None
    except (UnicodeEncodeError, TypeError) as error:
        raise not_unicode(" or ".join(field.name for field in fields), error) from None
    check_ids(front, items, _name_of(front, pairs, fields), pairs=classifies)
    return items, offsets


def _name_of(front: Frontend, pairs: Pairs, fields: tuple[Field, Field]) -> Callable[[int], str]:
    """Return what names an item of ``encode_pairs``; a pair is called by its second text."""
    num_firsts = 0 if plan_of(front).classifies else len(pairs.firsts)
    return lambda index: fields[0].item(index) if index < num_firsts else fields[1].item(index - num_firsts)


async def _encode_each(front: Frontend, pairs: Pairs, truncation: Truncation) -> list[list[int]]:
    special = front.tokenizer.num_special
    items = []
    for second, (texts, most) in enumerate(((pairs.firsts, truncation.first), (pairs.seconds, truncation.second))):
        limits = [limit for limit in (truncation.whole, None if most is None else most + special) if limit is not None]
        cut, fits = min(limits, default=None), front.max_input_tokens
        try:
            items += await front.tokenizer.encode(texts, cut, side=truncation.side, fits=fits)
        except TooLongError as error:
            raise TooLongError(error.index, error.what, second=bool(second)) from None
    return items


def scores_of(plan: PoolingPlan, pairs: Pairs, rows: Rows, activation: str) -> Rows:
    """Return the score of every pair, in order.

    Args:
        plan: of the run.
        pairs: what was asked.
        rows: what the engine gave for the items of ``encode_pairs``.
        activation: what makes scores of a cross-encoder's logits; cosines stay as they are.
    """
    if plan.classifies:
        return apply_activation(rows, activation)[:, 0]
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    firsts, seconds = units[: len(pairs.firsts)], units[len(pairs.firsts) :]
    cosines: Rows = (firsts * seconds).sum(axis=1)
    return cosines


def activation_of(plan: PoolingPlan, *, use_activation: bool) -> str:
    """Return the model's own activation, or none."""
    return plan.facts.activation if use_activation else "identity"
