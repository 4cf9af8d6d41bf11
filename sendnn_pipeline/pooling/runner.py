"""Tensors of a pooling step: pad, run the Program, cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sendnn_pipeline.backends.base import CompiledCall
from sendnn_pipeline.pooling.shapes import BATCH, LENGTH
from sendnn_pipeline.programs.program import Program

Rows = Sequence[Sequence[int]]
ThirdInput = Callable[[Rows, Sequence[int], int, int], torch.Tensor]
"""Makes ``[batch, length]`` of rows, the offset of each, and both sizes."""


@dataclass(frozen=True)
class PoolingRunner:
    """Compiled Programs, over their weights."""

    calls: Mapping[Program, CompiledCall]
    pad_token_id: int
    third_input: ThirdInput | None = None
    """Makes what Programs take beside ids and mask."""

    def run(self, program: Program, rows: Rows, offsets: Sequence[int] = ()) -> tuple[torch.Tensor, list[bool]]:
        """Run ``program`` on rows of token ids, as many as it takes or fewer.

        Args:
            program: what runs.
            rows: token ids.
            offsets: where the second text of each row begins, or its text behind a prompt; empty is all 0.

        Returns:
            Vectors ``[len(rows), size]`` in float32, and whether each is finite.
        """
        sizes = program.sizes_for(**{BATCH: len(rows), LENGTH: max(map(len, rows))})
        assert sizes is not None, f"{program.name} does not take these rows"
        batch, length = sizes
        inputs = pad(rows, batch, length, self.pad_token_id)
        if self.third_input is not None:
            inputs = (*inputs, self.third_input(rows, offsets, batch, length))
        with torch.no_grad():
            vectors, finite = self.calls[program](*inputs)
        return vectors[: len(rows)], finite[: len(rows)].tolist()


def pad(rows: Rows, batch: int, length: int, pad_token_id: int) -> tuple[torch.Tensor, ...]:
    """Fill ``[batch, length]`` with rows padded on the right, and return it with its mask.

    Rows beyond the last keep one unmasked token: a row without any would divide by zero.
    """
    ids = torch.full((batch, length), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((batch, length), dtype=torch.int64)
    mask[len(rows) :, 0] = 1
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[index, : len(row)] = 1
    return ids, mask


def token_type_ids(rows: Rows, offsets: Sequence[int], batch: int, length: int) -> torch.Tensor:
    """Return ``[batch, length]``: 1 from where the second text of a row begins to its end, else 0."""
    types = torch.zeros((batch, length), dtype=torch.int64)
    for index, (row, offset) in enumerate(zip(rows, offsets, strict=False)):
        if offset:
            types[index, offset : len(row)] = 1
    return types


def pooling_mask(rows: Rows, offsets: Sequence[int], batch: int, length: int) -> torch.Tensor:
    """Return ``[batch, length]``: 1 on the tokens of a row that are pooled, from where its text begins behind a prompt.

    Rows beyond the last keep one, as in ``pad``; a row that its prompt fills keeps its last one.
    """
    mask = torch.zeros((batch, length), dtype=torch.int64)
    mask[len(rows) :, 0] = 1
    for index, row in enumerate(rows):
        offset = offsets[index] if offsets else 0
        mask[index, min(offset, len(row) - 1) : len(row)] = 1
    return mask
