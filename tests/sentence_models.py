"""Tiny checkpoints that sentence-transformers itself saves, and its own model of each."""

from pathlib import Path
from typing import Any

import numpy as np

from sendnn_pipeline import Embedder
from tests.served import EAGER_FLOAT32

TEXTS = ["hello world", "the a of and", "Is ROME in a world of letters?", "x", "to be and to be in the world " * 2]
PROMPTS = {"query": "to the world of ", "document": "in a: ", "plain": ""}


def save(plain: Path, folder: Path, *after: Any, pooling: Any = "mean", include_prompt: bool = True, **options: Any):
    """Save a model as sentence-transformers does, and return it as that reads it again, in float32.

    Args:
        plain: folder of a model of transformers, 32 wide.
        folder: takes the new one.
        after: modules behind the pooling.
        pooling: a mode of theirs, or a tuple of several.
        include_prompt: whether a prompt's tokens are pooled.
        options: of ``SentenceTransformer``, such as ``prompts``.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(3)
    modules = [Transformer(str(plain)), Pooling(32, pooling, include_prompt=include_prompt), *after]
    SentenceTransformer(modules=modules, device="cpu", **options).save(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})


def embedder(folder, *words):
    """Return ours of a model."""
    return Embedder(*EAGER_FLOAT32, f"model.path={folder}", *words)


def same(folder, model, *words, texts=TEXTS, tolerance=1e-5, **asked):
    """Compare every text."""
    with embedder(folder, *words) as ours:
        found = ours.embed(texts)
    expected = model.encode(texts, **asked)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance
    assert np.ptp(expected, axis=0).max() > 1e-3, "vectors that are all alike prove nothing"
