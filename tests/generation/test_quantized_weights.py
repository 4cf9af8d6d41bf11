"""Which weights a Program of one row reads quantized."""

import pytest
import torch

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.quantized import with_quantized

PARAMETERS = {"causal.layers.0.up.weight": "layers.{layer}.up.weight", "causal.norm.weight": "norm.weight"}


def layer(number, outputs=6, **others):
    parts = {
        "up.weight": torch.zeros(outputs, 64),
        "up.weight.q4": torch.zeros(outputs, 2, 16, dtype=torch.uint8),
        "up.weight.scales": torch.zeros(outputs, 2),
        "up.weight.offsets": torch.zeros(2, outputs),
    }
    return {f"layers.{number}.{name}": tensor for name, tensor in (parts | others).items() if tensor is not None}


def test_those_that_all_layers_have_are_named():
    norm = {"norm.weight": torch.zeros(64)}
    found = with_quantized(PARAMETERS, layer(0) | layer(1) | norm, [0, 1])
    assert found == PARAMETERS | {
        f"causal.layers.0.up.weight_{part}": f"layers.{{layer}}.up.weight.{part}"
        for part in ("q4", "scales", "offsets")
    }
    for lacking in ("up.weight.q4", "up.weight.offsets"):
        weights = layer(0) | layer(1, **{lacking: None}) | norm
        assert with_quantized(PARAMETERS, weights, [0, 1]) == PARAMETERS
        assert len(with_quantized(PARAMETERS, weights, [0])) == 5


@pytest.mark.parametrize(
    "odd",
    [
        {"up.weight.scales": torch.zeros(6, 3)},
        {"up.weight.q4": torch.zeros(6, 2, 16, dtype=torch.int8)},
        {"up.weight": torch.zeros(6, 80)},
    ],
)
def test_parts_of_another_weight_are_refused(odd):
    with pytest.raises(ModelError, match="which does not fit layers") as caught:
        with_quantized(PARAMETERS, layer(0, **odd), [0])
    assert "\n" not in str(caught.value)
