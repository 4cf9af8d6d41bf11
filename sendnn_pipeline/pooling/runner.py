"""Tensors of a pooling step: pad, run the Program, cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sendnn_pipeline.backends.base import CompiledCall
from sendnn_pipeline.pooling.shapes import BATCH, LENGTH
from sendnn_pipeline.programs.program import Program


@dataclass(frozen=True)
class PoolingRunner:
    """Compiled Programs, over their weights."""

    calls: Mapping[Program, CompiledCall]
    pad_token_id: int
    token_type_ids: bool = False
    """Whether Programs take token types."""

    def run(
        self, program: Program, rows: Sequence[Sequence[int]], second_text_offsets: Sequence[int] = ()
    ) -> tuple[torch.Tensor, list[bool]]:
        """Run ``program`` on rows of token ids, as many as it takes or fewer.

        Args:
            program: what runs.
            rows: token ids.
            second_text_offsets: where the second text of each row begins, 0 where there is none; empty is all 0.

        Returns:
            Vectors ``[len(rows), size]`` in float32, and whether each is finite.
        """
        sizes = program.sizes_for(**{BATCH: len(rows), LENGTH: max(map(len, rows))})
        assert sizes is not None, f"{program.name} does not take these rows"
        batch, length = sizes
        inputs = pad(rows, batch, length, self.pad_token_id)
        if self.token_type_ids:
            inputs = (*inputs, token_type_ids(rows, second_text_offsets, batch, length))
        with torch.no_grad():
            vectors, finite = self.calls[program](*inputs)
        return vectors[: len(rows)], finite[: len(rows)].tolist()


def pad(rows: Sequence[Sequence[int]], batch: int, length: int, pad_token_id: int) -> tuple[torch.Tensor, ...]:
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


def token_type_ids(
    rows: Sequence[Sequence[int]], second_text_offsets: Sequence[int], batch: int, length: int
) -> torch.Tensor:
    """Return ``[batch, length]``: 1 from where the second text of a row begins to its end, else 0."""
    types = torch.zeros((batch, length), dtype=torch.int64)
    for index, (row, offset) in enumerate(zip(rows, second_text_offsets, strict=False)):
        if offset:
            types[index, offset : len(row)] = 1
    return types
