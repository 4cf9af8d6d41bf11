"""Which weights a model has quantized, too."""

from collections.abc import Mapping, Sequence

import torch

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.layers import LAYER
from sendnn_pipeline.programs.quantized import DTYPES, FILE, GROUP_SIZE, OFFSETS, Q4, Q8, SCALES, shape_of


def with_quantized(
    parameters: Mapping[str, str], weights: Mapping[str, torch.Tensor], layers: Sequence[int] = (0,)
) -> dict[str, str]:
    """Add the parts of quantized weights to the checkpoint's names by the module's.

    Args:
        parameters: without them.
        weights: the checkpoint's, those parts among them.
        layers: that share the names; what not all of them have is left out.

    Raises:
        ModelError: a part does not fit its weight.
    """
    found = dict(parameters)
    for name, original in parameters.items():
        for kinds in ((Q4, SCALES, OFFSETS), (Q8, SCALES)):
            if all(_has(weights, original.replace(LAYER, str(layer)), kinds) for layer in layers):
                found |= {f"{name}_{kind}": f"{original}.{kind}" for kind in kinds}
    return found


def _has(weights: Mapping[str, torch.Tensor], name: str, kinds: Sequence[str]) -> bool:
    """Return whether a weight has all of these parts."""
    if any(f"{name}.{kind}" not in weights for kind in kinds):
        return False
    shape = weights[name].shape
    for kind in kinds:
        part = weights[f"{name}.{kind}"]
        fits = len(shape) == 2 and shape[1] % GROUP_SIZE == 0 and part.shape == shape_of(kind, *shape)
        if not fits or part.dtype != getattr(torch, DTYPES[kind]):
            raise ModelError(f"{FILE} has {name}.{kind}, which does not fit {name}", hint="fetch the model again")
    return True
