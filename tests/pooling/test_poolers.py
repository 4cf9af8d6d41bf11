"""Pooling against plain numpy, and whole models against transformers."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.pooling.function import FiniteRows, PoolFunction
from sendnn_pipeline.pooling.poolers import pool, unit
from sendnn_pipeline.pooling.runner import pad


def by_hand(hidden, pooling):
    return {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_is_not_pooled(pooling):
    hidden = torch.randn(3, 8, 5)
    lengths = [8, 3, 1]
    mask = torch.tensor([[1] * n + [0] * (8 - n) for n in lengths])
    vectors = pool(hidden, mask, pooling)
    for row, length in enumerate(lengths):
        assert np.allclose(vectors[row], by_hand(hidden[row, :length].numpy(), pooling), atol=1e-6)


def test_unit_and_finite():
    assert torch.allclose(unit(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
    rows = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [1.0, float("inf")]])
    assert FiniteRows()(rows).tolist() == [True, False, False]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_padded_batch_equals_transformers_without_padding(tiny, pooling):
    model = AutoModel.from_pretrained(tiny).eval()
    rows = [[2, 11, 12, 3], [2, 7, 3], list(range(2, 18))]
    with torch.no_grad():
        vectors = PoolFunction(model, pooling, normalize=False)(*pad(rows, 4, 16, 0))
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
        vectors = PoolFunction(model, "last", normalize=False)(*pad(rows, 2, 8, 0))
        for row, ids in enumerate(rows):
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            assert torch.allclose(vectors[row], expected, atol=1e-5)
