"""The functions that are compiled: a model with its pooling, and the check of what it gives."""

from typing import Any

import torch
from torch import nn

from sendnn_pipeline.pooling.poolers import last_token, pool, unit


class PoolFunction(nn.Module):
    """Ids and mask ``[batch, length]`` to vectors ``[batch, dimensions]`` in float32."""

    def __init__(self, model: nn.Module, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.model, self.pooling, self.normalize = model, pooling, normalize

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Run the model and pool its hidden states over real tokens."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = pool(hidden, attention_mask, self.pooling)
        return unit(vectors) if self.normalize else vectors


class ClassifyFunction(nn.Module):
    """Ids, mask and perhaps token types ``[batch, length]`` to logits ``[batch, labels]`` in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Decoders read their label off the last token, which transformers finds by its id: ours by the mask, so that
        # a text may end in the id that also pads.
        self.scores_last = hasattr(model, "score")

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run the model and its head."""
        kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if not self.scores_last:
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds).logits
            return logits.float()
        encoder: Any = self.model.base_model
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
        score: Any = self.model.score
        return score(last_token(hidden, attention_mask)).float()  # type: ignore[no-any-return]


class FiniteRows(nn.Module):
    """Vectors ``[rows, dimensions]`` to whether all of each row is finite: ``[rows]`` of bool."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Look at every number."""
        return torch.isfinite(vectors).all(dim=1)
