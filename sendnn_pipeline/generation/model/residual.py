"""Hidden states in float32 between layers of any dtype: each layer adds a little, which rounding would lose."""

from typing import Any

import torch
from torch import nn


def keep_residual(causal: nn.Module) -> None:
    """Have a model's modules take hidden states of float32, and cast them where weights are smaller."""
    from transformers.pytorch_utils import Conv1D

    # These take their weights' dtype and no other. What is written for a model by itself, as its norms are, takes any.
    strict = nn.Linear, nn.LayerNorm, nn.RMSNorm, Conv1D
    for module in causal.modules():
        if isinstance(module, strict) and getattr(module, "weight", None) is not None:
            module.register_forward_pre_hook(_cast)


def _cast(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    hidden, *others = inputs
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    return hidden.to(weight.dtype), *others
