"""Tensors of a step of generation: a step of the scheduler to logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sendnn_pipeline.backends.base import CompiledCall
from sendnn_pipeline.generation.plan import GenerationPlan
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.generation.steps import Chunk, DecodeStep
from sendnn_pipeline.programs.program import Program


@dataclass(frozen=True)
class Logits:
    """Of some rows."""

    rows: torch.Tensor
    """``[rows, vocabulary]`` in float32."""
    greedy: list[int]
    """The ids of the largest."""
    finite: list[bool]
    """Whether all of a row are."""


@dataclass(frozen=True)
class GenerationRunner:
    """Compiled Programs over their weights and one cache."""

    calls: Mapping[Program, CompiledCall]
    caches: Sequence[torch.Tensor]
    plan: GenerationPlan
    hidden_size: int

    def prefill(self, chunk: Chunk) -> torch.Tensor:
        """Compute a chunk, and return the hidden states of its tokens ``[tokens, size]``."""
        first = chunk.first_row
        positions = torch.arange(chunk.start, chunk.end)
        slots = torch.tensor(chunk.slots[first : first + len(chunk.token_ids)])
        inputs = (torch.tensor(chunk.token_ids), positions, slots, torch.tensor(chunk.block_table))
        with torch.no_grad():
            (hidden,) = self.calls[self.plan.prefill](*inputs, *self.caches)
        return hidden

    def decode(self, step: DecodeStep) -> torch.Tensor:
        """Compute a token of each row, and return their hidden states ``[rows, size]``."""
        rows, tables = range(len(step.request_ids)), step.block_tables
        blocks = [block for table in tables for block in table]
        row_of_block = [row for row, table in zip(rows, tables, strict=True) for _ in table]
        starts = [index * BLOCK_SIZE for table in tables for index in range(len(table))]
        inputs = (step.token_ids, step.positions, step.slots, blocks, row_of_block, starts)
        with torch.no_grad():
            (hidden,) = self.calls[self.plan.decode](*map(torch.tensor, inputs), *self.caches)
        return hidden

    def logits(self, hidden: torch.Tensor) -> Logits:
        """Return logits of hidden states ``[rows, size]``, of any number of rows."""
        most = self.plan.rules.max_num_seqs
        with torch.no_grad():
            parts = [self.calls[self.plan.logits](part) for part in hidden.split(most)]
        rows, greedy, finite = (torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts, strict=True))
        return Logits(rows, greedy.tolist(), finite.tolist())
