"""The functions that are compiled: a model with its pooling, and the check of what it gives."""

import torch
from torch import nn

from sendnn_pipeline.pooling.poolers import pool, unit


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


class FiniteRows(nn.Module):
    """Vectors ``[rows, dimensions]`` to whether all of each row is finite: ``[rows]`` of bool."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Look at every number."""
        return torch.isfinite(vectors).all(dim=1)
