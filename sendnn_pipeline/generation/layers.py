"""Which layers of a model are alike, so that they are compiled once and bound to the weights of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.model.decoder import ChunkLayer, Embed, whole
from sendnn_pipeline.generation.model.steps import ChunkStep
from sendnn_pipeline.generation.model.stubs import layer_prefix, layers_of
from sendnn_pipeline.generation.rules import BLOCK_SIZE

LAYER = "{layer}"
"""Stands for the number of a layer in the name of a weight."""
NOT_A_DECODER = "cannot be generated with here"
HINT = "models of plain attention are"
# What a forward raises that is called in another way than its model calls it, and what is refused by name. Others, as
# where no memory is left, say nothing of the architecture, and stay what they are.
MISFITS = (NotImplementedError, AttributeError, TypeError, ValueError, LookupError)


@dataclass(frozen=True)
class LayerKind:
    """Layers that differ in their weights alone."""

    first: int
    """The one that is traced."""
    parameters: dict[str, str]
    """The checkpoint's name, with ``{layer}`` in it, by the module's."""


class LayerWeights(Mapping[str, torch.Tensor]):
    """The weights of one layer, under the names that stand for every layer's."""

    def __init__(self, weights: Mapping[str, torch.Tensor], layer: int) -> None:
        self._weights, self._layer = weights, layer

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[name.replace(LAYER, str(self._layer))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def find_kinds(
    causal: nn.Module, types: Sequence[str], parameters: Mapping[str, str], folder: Path
) -> dict[str, LayerKind]:
    """Return the kinds of layers by their names.

    Args:
        causal: the model.
        types: the name of each layer's kind.
        parameters: the checkpoint's names by the module's.
        folder: of the model, for errors.

    Raises:
        ModelError: layers of one name are not alike, or weights are not the checkpoint's.
    """
    layers, prefix, kinds = layers_of(causal), f"causal.{layer_prefix(causal)}", {}
    for kind in dict.fromkeys(types):
        members = [index for index, name in enumerate(types) if name == kind]
        described = {index: _describe(layers[index]) for index in members}
        other = next((index for index in members if described[index] != described[members[0]]), None)
        if other is not None:
            raise ModelError(
                f"{folder}: layers {members[0]} and {other} differ in more than weights, and {NOT_A_DECODER}"
            )
        names = {index: _names(parameters, prefix, index) for index in members}
        missing = [name for name, _ in layers[members[0]].named_parameters() if name not in names[members[0]]]
        if missing or any(names[index] != names[members[0]] for index in members):
            what = f"{missing[0]} of a layer is" if missing else "names of weights in layers are"
            raise ModelError(
                f"{folder}: {what} not as in the checkpoint, and {NOT_A_DECODER}",
                hint="transformers makes such weights of others, as those of experts; models without experts are",
            )
        own = {f"{prefix}{members[0]}.{name}": original for name, original in names[members[0]].items()}
        shared = {name: original for name, original in parameters.items() if not name.startswith(prefix)}
        kinds[kind] = LayerKind(members[0], shared | own)
    return kinds


def check_layers(causal: nn.Module, folder: Path, cache: Sequence[torch.Tensor]) -> None:
    """Check that a model computes by its layers, one after the other, what it computes as a whole.

    Args:
        causal: the model.
        folder: of the model, for errors.
        cache: keys and values of a layer, of which a copy is written.

    Raises:
        ModelError: it does not, or cannot be called so.
    """
    tokens = torch.arange(1, 9)
    positions, slots = tokens - 1, tokens - 1 + BLOCK_SIZE
    inputs: dict[str, Any] = {
        "positions": positions,
        "queries": positions[None],
        "row_of_token": torch.zeros_like(positions),
        "query_of_token": positions,
        "block_tables": torch.ones(1, 1).long(),
    }
    try:
        with torch.no_grad():
            number = len(layers_of(causal))
            caches = [tuple(torch.zeros_like(tensor[:2]) for tensor in cache) for _ in range(number)]
            steps = [ChunkStep(keys.clone(), values.clone(), slots, **inputs) for keys, values in caches]
            wanted = whole(causal, tokens, positions, steps)
            (hidden,) = Embed(causal)(tokens, positions)
            for layer in range(number):
                keys, values = caches[layer]
                (hidden,) = ChunkLayer(causal, layer)(hidden, slots=slots, keys=keys, values=values, **inputs)
    except MISFITS as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder} {NOT_A_DECODER}: {text}", hint=HINT) from error
    if not torch.equal(wanted, hidden):
        raise ModelError(f"{folder} {NOT_A_DECODER}: it does more than its layers do", hint=HINT)


def _describe(layer: nn.Module) -> list[Any]:
    """Return all that decides what a layer computes, but its weights and its number."""
    plain = (int, float, str, bool, tuple, type(None))
    parts: list[Any] = []
    for name, module in layer.named_modules():
        values = {key: value for key, value in vars(module).items() if isinstance(value, plain) and key != "layer_idx"}
        parts.append((name, type(module), values))
    parts += [(name, tensor.shape, tensor.dtype) for name, tensor in layer.named_parameters()]
    return parts + [(name, tensor.tolist()) for name, tensor in layer.named_buffers()]


def _names(parameters: Mapping[str, str], prefix: str, layer: int) -> dict[str, str]:
    """Return the checkpoint's names of a layer's weights, its number replaced, by the names within the layer."""
    start, number = f"{prefix}{layer}.", f".{layer}."
    inside = {name.removeprefix(start): other for name, other in parameters.items() if name.startswith(start)}
    return {name: f".{other}".replace(number, f".{LAYER}.", 1).removeprefix(".") for name, other in inside.items()}
