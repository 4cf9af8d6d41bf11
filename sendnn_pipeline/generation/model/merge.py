"""What the first layer reads where rows of images stand in the places of tokens."""

import torch
from torch import nn

from sendnn_pipeline.generation.model.decoder import embedded, read_by_first


class Merge(nn.Module):
    """Token ids and rows of images to what the first layer reads."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, is_image: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor]:
        """Return ``[tokens, hidden size]``.

        Args:
            input_ids: ``[tokens]``.
            positions: ``[tokens]``.
            is_image: ``[tokens]``, 1 in whose places ``rows`` are read, else 0.
            rows: ``[tokens, hidden size]``.
        """
        merged = torch.where(is_image[:, None] != 0, rows.float(), embedded(self.causal, input_ids))
        return (read_by_first(self.causal, merged, positions),)
