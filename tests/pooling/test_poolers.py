"""Pooling against plain numpy, and whole models against transformers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.pooling.model import PooledModel
from sendnn_pipeline.pooling.poolers import pool
from sendnn_pipeline.pooling.runner import pad


def by_hand(hidden, pooling):
    later = np.arange(1, len(hidden) + 1)[:, None]
    return {
        "mean": lambda: hidden.mean(axis=0),
        "cls": lambda: hidden[0],
        "last": lambda: hidden[-1],
        "max": lambda: hidden.max(axis=0),
        "mean_sqrt_len": lambda: hidden.sum(axis=0) / np.sqrt(len(hidden)),
        "weightedmean": lambda: (hidden * later).sum(axis=0) / later.sum(),
        "max+cls": lambda: np.concatenate([hidden.max(axis=0), hidden[0]]),
    }[pooling]()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean", "max+cls"])
def test_padding_is_not_pooled(pooling):
    hidden = torch.randn(3, 8, 5)
    lengths = [8, 3, 1]
    mask = torch.tensor([[1] * n + [0] * (8 - n) for n in lengths])
    vectors = pool(hidden, mask, pooling)
    for row, length in enumerate(lengths):
        assert np.allclose(vectors[row], by_hand(hidden[row, :length].numpy(), pooling), atol=1e-6)


def test_rows_that_are_not_finite_are_told():
    """Of a model whose hidden states are its ids, some of them not numbers."""

    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            hidden = input_ids.float()[:, :, None].repeat(1, 1, 2)
            hidden[input_ids == 7] = float("nan")
            hidden[input_ids == 8] = float("inf")
            return SimpleNamespace(last_hidden_state=hidden)

    ids, mask = pad([[1, 2], [1, 7], [8, 1], [8]], 4, 8, 0)
    vectors, finite = PooledModel(Model(), "mean")(ids, mask)
    assert finite.tolist() == [True, False, False, False] and vectors[0].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_padded_batch_equals_transformers_without_padding(tiny, pooling):
    model = AutoModel.from_pretrained(tiny).eval()
    rows = [[2, 11, 12, 3], [2, 7, 3], list(range(2, 18))]
    with torch.no_grad():
        vectors, finite = PooledModel(model, pooling)(*pad(rows, 4, 16, 0))
        assert finite.tolist() == [True] * 4
        for row, ids in enumerate(rows):
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
            assert np.allclose(vectors[row], by_hand(hidden, pooling), atol=1e-5)


def test_a_causal_model_pools_its_last_token():
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = Qwen3Model(Qwen3Config(vocab_size=64, **sizes, **heads)).eval()
    rows = [[5, 6, 7], [9, 8, 7, 6, 5]]
    with torch.no_grad():
        vectors, _ = PooledModel(model, "last")(*pad(rows, 2, 8, 0))
        for row, ids in enumerate(rows):
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            assert torch.allclose(vectors[row], expected, atol=1e-5)
