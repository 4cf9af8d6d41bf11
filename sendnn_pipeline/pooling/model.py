"""The modules that are compiled: a model with its pooling or its head, and the check of what it gives."""

from typing import Any

import torch
from torch import nn

from sendnn_pipeline.pooling.poolers import last_token, pool

OUTPUTS = ("vectors", "finite")


class PooledModel(nn.Module):
    """Ids and mask ``[batch, length]`` to vectors ``[batch, dimensions]`` in float32, and whether each is finite.

    Of whatever length they are: a request may want them so, and scaling to one is cheap where answers are made.

    Args:
        model: gives hidden states.
        pooling: as ``pool`` takes it.
        layers: what follows, by name; None is nothing.
    """

    def __init__(self, model: nn.Module, pooling: str, layers: nn.ModuleDict | None = None) -> None:
        super().__init__()
        self.model, self.pooling, self.layers = model, pooling, layers or nn.ModuleDict()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pooling_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the model and pool its hidden states over real tokens, or over those of a mask of their own."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = pool(hidden, attention_mask if pooling_mask is None else pooling_mask, self.pooling)
        for layer in self.layers.values():
            vectors = layer(vectors)
        return _checked(vectors)


class ClassifierModel(nn.Module):
    """Ids, mask and perhaps token types ``[batch, length]`` to logits ``[batch, labels]`` in float32, and the check."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Decoders read their label off the last token, which transformers finds by its id: ours by the mask, so that
        # a text may end in the id that also pads.
        self.scores_last = hasattr(model, "score")

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the model and its head."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if not self.scores_last:
            return _checked(self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits.float())
        encoder: Any = self.model.base_model
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        score: Any = self.model.score
        return _checked(score(last_token(hidden, attention_mask)).float())


def _checked(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors ``[rows, size]`` with whether all of each row is finite, ``[rows]`` of bool."""
    return vectors, torch.isfinite(vectors).all(dim=1)
