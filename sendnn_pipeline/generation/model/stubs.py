"""The layers of a causal model of transformers, and calls in their places."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def layers_of(causal: nn.Module) -> nn.ModuleList:
    """Return the layers of a causal model.

    Raises:
        NotImplementedError: it has no list of them.
    """
    _, layers = _named_layers(causal)
    return layers


def layer_prefix(causal: nn.Module) -> str:
    """Return the beginning of the names of what is in a layer, such as ``model.layers.``."""
    layers = layers_of(causal)
    name: str = next(name for name, module in causal.named_modules() if module is layers)
    return f"{name}."


def decoder_of(causal: Any) -> nn.Module:
    """Return what is below the head."""
    decoder: nn.Module = causal.get_decoder()
    return decoder


def _named_layers(causal: Any) -> tuple[str, nn.ModuleList]:
    number = causal.config.get_text_config().num_hidden_layers
    for name, module in decoder_of(causal).named_children():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return name, module
    raise NotImplementedError("a decoder without a list of layers")


class _Stub(nn.Module):
    """Stands for a layer."""

    def __init__(self, layer: nn.Module, call: Callable[..., torch.Tensor] | None) -> None:
        super().__init__()
        # What a model asks of its layers beside calling them.
        self.attention_type = getattr(layer, "attention_type", None)
        self.call = call

    def forward(self, hidden_states: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        return hidden_states if self.call is None else self.call(hidden_states, *others, **named)


@contextmanager
def replaced_layers(causal: nn.Module, calls: dict[int, Callable[..., torch.Tensor]]) -> Iterator[None]:
    """Replace the layers of a model: by these calls, and by nothing where there is none."""
    decoder = decoder_of(causal)
    name, layers = _named_layers(causal)
    stubs = [_Stub(layer, calls.get(index)) for index, layer in enumerate(layers)]
    decoder._modules[name] = nn.ModuleList(stubs)
    try:
        yield
    finally:
        decoder._modules[name] = layers
