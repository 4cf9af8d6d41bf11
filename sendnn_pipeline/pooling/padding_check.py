"""Does what pads a text change its answer? Of some architectures it does, mask or not, and then batch-mates decide."""

from typing import TYPE_CHECKING

import torch

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.pooling.runner import ThirdInput, pad

if TYPE_CHECKING:
    from torch import nn

TEXT, PADDED = [1, 2, 3], 8
# Of the largest number: what another order of additions makes of it, and far below what mixing does.
TOLERANCE = {"float32": 1e-3}
TOLERANCE_OF_HALVES = 0.05
# So few numbers may all be near zero by chance, as the logit of one pair, and are compared to 1 then.
FEW = 16


def check_padding(module: "nn.Module", third: ThirdInput | None, model: ModelFacts, dtype: str) -> None:
    """Compare the answer to a few tokens with the one to the same tokens and some that pad.

    Args:
        module: the model with its pooling, or the classifier.
        third: makes its third input, where it has one.
        model: knows its tokens.
        dtype: name of that in which it computes.

    Raises:
        ModelError: they differ.
    """
    rows = [[token_id % model.vocab_size for token_id in TEXT]]

    def answer(length: int) -> torch.Tensor:
        inputs = pad(rows, 1, length, model.pad_token_id)
        vectors: torch.Tensor = module(*inputs, *([third(rows, [0], 1, length)] if third else []))[0]
        return vectors.float()

    with torch.no_grad():
        alone, padded = answer(len(TEXT)), answer(PADDED)
    difference, largest = float((padded - alone).abs().max()), float(alone.abs().max())
    if alone.numel() < FEW:
        largest = max(largest, 1.0)
    if difference > TOLERANCE.get(dtype, TOLERANCE_OF_HALVES) * largest:
        raise ModelError(
            f"{model.folder}: in models of the type {model.model_type} what pads a text changes its answer, here by "
            f"{difference:.2g} of {largest:.2g}, so that it would depend on the texts beside it",
            hint="use another model",
        )
