"""Tensors of a step of generation: a step of the scheduler to logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

from sendnn_pipeline.backends.base import CompiledCall, CompiledProgram
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.image_rows import ImageRows, rows_of
from sendnn_pipeline.generation.layers import LayerWeights
from sendnn_pipeline.generation.plan import GenerationPlan, generation_plan
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


class StepRunner(Protocol):
    """What a step of the scheduler is computed by."""

    @property
    def plan(self) -> GenerationPlan:
        """Of the run."""

    def prefill(self, chunks: Sequence[Chunk]) -> Sequence[torch.Tensor]:
        """Compute chunks of prompts, and return for each one the states of its tokens, that of the last at the end."""

    def decode(self, step: DecodeStep) -> torch.Tensor:
        """Compute a token of each row, and return their states, a row each."""

    def logits(self, hidden: torch.Tensor) -> Logits:
        """Return the logits of states, whatever those are to this runner."""

    def clear(self, blocks: Sequence[int]) -> None:
        """See to it that numbers that are not finite do not spread from these blocks."""


@dataclass(frozen=True)
class Layer:
    """A layer of the model: its Programs over its weights, and its part of the cache."""

    prefill: CompiledCall
    decode: CompiledCall
    decode_one: CompiledCall
    """The same for one row."""
    cache: Sequence[torch.Tensor]
    """Keys and values."""


@dataclass(frozen=True)
class GenerationRunner:
    """A model over one cache."""

    embed: CompiledCall
    layers: Sequence[Layer]
    head: CompiledCall
    head_one: CompiledCall
    """The same for one row."""
    plan: GenerationPlan
    hidden_size: int
    merge: CompiledCall | None = None
    """The same as ``embed``, with rows of images; None where a model reads text alone."""
    images: Mapping[int, ImageRows] = field(default_factory=dict)
    """Of prompts under way that have images, by the scheduler's ids."""

    def prefill(self, chunks: Sequence[Chunk]) -> Sequence[torch.Tensor]:
        """Compute chunks of prompts, and return the hidden states of each one's tokens ``[tokens, size]``."""
        token_ids = torch.tensor([token for chunk in chunks for token in chunk.token_ids])
        positions = torch.cat([torch.arange(chunk.start, chunk.end) for chunk in chunks])
        slots = torch.tensor([slot for chunk in chunks for slot in chunk.token_slots])
        sizes = torch.tensor([[len(chunk.token_ids)] for chunk in chunks])
        query = torch.arange(int(sizes.max()))[None]
        queries = sizes.cumsum(0) - sizes + torch.minimum(query, sizes - 1)
        of_token = torch.where(query < sizes)
        tables = pad_sequence([torch.tensor(chunk.block_table) for chunk in chunks], batch_first=True)
        with torch.no_grad():
            hidden = self._first(chunks, token_ids, positions)
            for layer in self.layers:
                (hidden,) = layer.prefill(hidden, positions, slots, *of_token, queries, tables, *layer.cache)
        return torch.split(hidden, [len(chunk.token_ids) for chunk in chunks])

    def _first(self, chunks: Sequence[Chunk], token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what the first layer reads."""
        hidden: torch.Tensor
        if not self.images or all(chunk.request_id not in self.images for chunk in chunks):
            (hidden,) = self.embed(token_ids, positions)
            return hidden
        assert self.merge is not None
        is_image, rows = rows_of(chunks, self.images, self.hidden_size, self.layers[0].cache[0].dtype)
        (hidden,) = self.merge(token_ids, positions, is_image, rows)
        return hidden

    def decode(self, step: DecodeStep) -> torch.Tensor:
        """Compute a token of each row, and return their hidden states ``[rows, size]``."""
        tables = step.block_tables
        blocks = [block for table in tables for block in table]
        row_of_block = [row for row, table in enumerate(tables) for _ in table]
        starts = [index * BLOCK_SIZE for table in tables for index in range(len(table))]
        firsts = [0, *accumulate(len(table) for table in tables[:-1])]
        positions = torch.tensor(step.positions)
        inputs = (positions, *map(torch.tensor, (step.slots, blocks, row_of_block, starts, firsts)))
        with torch.no_grad():
            (hidden,) = self.embed(torch.tensor(step.token_ids), positions)
            for layer in self.layers:
                call = layer.decode_one if len(tables) == 1 else layer.decode
                (hidden,) = call(hidden, *inputs, *layer.cache)
        return hidden

    def clear(self, blocks: Sequence[int]) -> None:
        """Take numbers that are not finite out of the cache: masked or not, they would spread to the next reader."""
        for layer in self.layers:
            for tensor in layer.cache:
                tensor[list(blocks)] = 0

    def logits(self, hidden: torch.Tensor) -> Logits:
        """Return logits of hidden states ``[rows, size]``, of any number of rows."""
        most = self.plan.rules.max_num_seqs
        with torch.no_grad():
            parts = [(self.head_one if len(part) == 1 else self.head)(part) for part in torch.split(hidden, most)]
        columns = zip(*parts, strict=True)
        rows, greedy, finite = (torch.cat(column) if len(parts) > 1 else column[0] for column in columns)
        return Logits(rows, greedy.tolist(), finite.tolist())


def bind_runner(
    run: Run,
    compiled: Mapping[Program, CompiledProgram],
    weights: Mapping[str, torch.Tensor],
    caches: Sequence[Sequence[torch.Tensor]],
    images: Mapping[int, ImageRows] | None = None,
) -> GenerationRunner:
    """Bind the Programs of a run to its weights, those of layers to each layer's.

    Args:
        run: its plan and its model.
        compiled: the Programs.
        weights: the checkpoint's.
        caches: keys and values of each layer.
        images: a mapping that has, when a prompt is computed, the rows of its images.
    """
    plan = generation_plan(run)
    layers = []
    for index, (kind, cache) in enumerate(zip(plan.layer_kinds, caches, strict=True)):
        own = LayerWeights(weights, index)
        prefill, decode, one = plan.prefill(kind), plan.decode(kind), plan.decode_one(kind)
        calls = {program: compiled[program].bind(own) for program in {prefill, decode, one}}
        layers.append(Layer(calls[prefill], calls[decode], calls[one], cache))
    embed = compiled[plan.embed].bind(weights)
    heads = {program: compiled[program].bind(weights) for program in {plan.logits, plan.logits_one}}
    head, head_one = heads[plan.logits], heads[plan.logits_one]
    merge = None if plan.images is None else compiled[plan.merge].bind(weights)
    return GenerationRunner(
        embed, layers, head, head_one, plan, run.model.hidden_size, merge, {} if images is None else images
    )
