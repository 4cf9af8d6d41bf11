"""Scores of pairs of texts: a cross-encoder reads both at once, a bi-encoder's are the cosine of two vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.server.cut import Cut
from sendnn_pipeline.server.tokenizer import TextTokenizer

type_array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """Texts to be scored against each other: as many firsts as seconds, or one first for all."""

    firsts: Sequence[str]
    seconds: Sequence[str]


@dataclass(frozen=True)
class PairItems:
    """Token ids of what the engine computes for them."""

    items: list[list[int]]
    second_at: list[int]
    """Where the second text of each pair begins; empty where items are single texts."""


async def items_of(run: Run, tokenizer: TextTokenizer, pairs: Pairs, cut: Cut) -> PairItems:
    """Return token ids: of every pair for a cross-encoder, of the firsts and then of the seconds for a bi-encoder."""
    if run.classifies:
        return PairItems(*await tokenizer.encode_pairs(pairs.firsts, pairs.seconds, cut))
    special = tokenizer.num_special
    items = []
    for texts, most in ((pairs.firsts, cut.first), (pairs.seconds, cut.second)):
        limits = [limit for limit in (cut.whole, None if most is None else most + special) if limit is not None]
        items += await tokenizer.encode(texts, min(limits, default=None), side=cut.side)
    return PairItems(items, [])


def scores_of(run: Run, pairs: Pairs, rows: type_array, activation: str) -> type_array:
    """Return the score of every pair, in order.

    Args:
        run: the run.
        pairs: what was asked.
        rows: what the engine gave for the items of ``items_of``.
        activation: what makes scores of a cross-encoder's logits; cosines stay as they are.
    """
    if run.classifies:
        return activated(rows, activation)[:, 0]
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    firsts, seconds = units[: len(pairs.firsts)], units[len(pairs.firsts) :]
    cosines: type_array = (firsts * seconds).sum(axis=1)
    return cosines


def activated(logits: type_array, activation: str) -> type_array:
    """Turn logits ``[rows, labels]`` into scores."""
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        # Without overflow at either end.
        small = np.exp(-np.abs(logits))
        sigmoid: type_array = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
        return sigmoid
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: type_array = powers / powers.sum(axis=1, keepdims=True)
    return softmax


def activation_of(model: ModelFacts, use_activation: bool) -> str:
    """Return the model's own activation, or none."""
    return model.activation if use_activation else "identity"
