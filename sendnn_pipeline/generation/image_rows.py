"""Rows of images in the places of a prompt's tokens: cut to the chunks that a step computes."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sendnn_pipeline.generation.steps import Chunk


@dataclass(frozen=True)
class ImageRows:
    """Of all images of a prompt."""

    positions: Sequence[int]
    """Of the tokens in whose places they are read, ascending."""
    rows: torch.Tensor
    """``[positions, hidden size]``."""

    def within(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the places from ``start`` on, counted from there, up to ``end``, and their rows."""
        first, last = bisect_left(self.positions, start), bisect_left(self.positions, end)
        return torch.tensor(self.positions[first:last], dtype=torch.int64) - start, self.rows[first:last]


def rows_of(
    chunks: Sequence[Chunk], images: Mapping[int, ImageRows], hidden_size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which tokens of all chunks are rows of images ``[tokens]``, and those rows ``[tokens, hidden size]``.

    Args:
        chunks: of a step, one after the other.
        images: by the scheduler's ids; those without any are text alone.
        hidden_size: of the text model.
        dtype: of the text model.
    """
    size = sum(len(chunk.token_ids) for chunk in chunks)
    is_image, rows, begin = torch.zeros(size, dtype=torch.int64), torch.zeros(size, hidden_size, dtype=dtype), 0
    for chunk in chunks:
        found = images.get(chunk.request_id)
        if found is not None:
            places, own = found.within(chunk.start, chunk.end)
            is_image[begin + places], rows[begin + places] = 1, own
        begin += len(chunk.token_ids)
    return is_image, rows
