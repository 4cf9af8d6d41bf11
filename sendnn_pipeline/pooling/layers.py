"""The modules behind the pooling as torch computes them, and their weights into memory."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.pooling.modules import Dense, LayerNorm, Module, Normalize


class DenseLayer(nn.Module):
    """Vectors ``[batch, in_features]`` to ``[batch, out_features]``, both float32; weights in the model's dtype."""

    def __init__(self, module: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(module.in_features, module.out_features, bias=module.bias)
        self.activation: nn.Module = getattr(nn, module.activation)()
        self.adds_input = module.residual
        if module.residual and module.in_features != module.out_features:
            self.residual = nn.Linear(module.in_features, module.out_features, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Transform every vector."""
        narrow = vectors.to(self.linear.weight.dtype)
        projected: torch.Tensor = self.activation(self.linear(narrow).float())
        if not self.adds_input:
            return projected
        added: torch.Tensor = self.residual(narrow).float() if hasattr(self, "residual") else vectors
        return projected + added


class LayerNormLayer(nn.Module):
    """Vectors ``[batch, size]`` in float32 to the same."""

    def __init__(self, module: LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(module.size)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Scale every vector."""
        weight, bias = self.norm.weight.float(), self.norm.bias.float()
        return nn.functional.layer_norm(vectors, self.norm.normalized_shape, weight, bias, self.norm.eps)


class UnitLayer(nn.Module):
    """Vectors ``[batch, size]`` to vectors of length one."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Scale every vector."""
        return nn.functional.normalize(vectors, dim=-1)


class CutLayer(nn.Module):
    """The first numbers of vectors ``[batch, any]``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Cut every vector."""
        return vectors[:, : self.size]


def make_layers(modules: Iterable[Module], weights: "Mapping[str, torch.Tensor]") -> nn.ModuleDict:
    """Return the modules with the checkpoint's weights, under names that their tensors have there, too.

    Args:
        modules: in their order.
        weights: by the checkpoint's names, of one dtype.

    Raises:
        ModelError: a weight is missing or of another shape.
    """
    layers = nn.ModuleDict()
    for index, module in enumerate(modules):
        if isinstance(module, Dense | LayerNorm):
            layer: nn.Module = DenseLayer(module) if isinstance(module, Dense) else LayerNormLayer(module)
            layers[module.name] = _with_weights(layer, module.name, weights)
        elif isinstance(module, Normalize):
            layers[f"normalize_{index}"] = UnitLayer()
        else:
            layers[f"first_{index}"] = CutLayer(module.size)
    return layers.eval().requires_grad_(False)


def _with_weights(layer: nn.Module, name: str, weights: "Mapping[str, torch.Tensor]") -> nn.Module:
    state: dict[str, Any] = {}
    for key, tensor in layer.state_dict().items():
        full = f"{name}.{key}"
        if full not in weights or weights[full].shape != tensor.shape:
            raise ModelError(
                f"the weights of module {name} lack {key} of shape {tuple(tensor.shape)}",
                hint="do its config.json and model.safetensors belong together? fetch the model again",
            )
        # Not the checkpoint's own storage: which tensor is whose is found by comparing.
        state[key] = weights[full].clone()
    layer.load_state_dict(state, assign=True)
    return layer
