"""Tensors of a step on a device, and the cache that comes back with every one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sendnn_pipeline.backends.base import CompiledCall, CompiledProgram
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.device.decoder import PREFILL_ROWS
from sendnn_pipeline.generation.image_rows import ImageRows
from sendnn_pipeline.generation.plan import GenerationPlan, generation_plan
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.generation.runner import Logits
from sendnn_pipeline.generation.steps import Chunk, DecodeStep
from sendnn_pipeline.programs.program import Program

if TYPE_CHECKING:
    from torch import nn


@dataclass
class DeviceRunner:
    """A model on a device. Its last hidden states stay there: what stands for them here are logits."""

    calls: Mapping[str, CompiledCall]
    """By function."""
    plan: GenerationPlan
    dtype: torch.dtype
    embed: "nn.Module | None" = None
    """From ids to what the first layer reads, of a model that reads images; None of one whose device reads ids."""
    images: Mapping[int, ImageRows] = field(default_factory=dict)
    """Of prompts under way that have images, by the scheduler's ids."""
    caches: list[torch.Tensor] = field(init=False)
    """Keys and values of each layer in turn: names for what the device has, once a step has run."""

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Take new caches, all zero."""
        self.caches = make_device_caches(self.plan, self.dtype)

    def prefill(self, chunks: Sequence[Chunk]) -> Sequence[torch.Tensor]:
        """Compute the one chunk of a step, and return logits ``[1, vocabulary]`` behind its last token."""
        return [self.run_chunk(chunk) for chunk in chunks]

    def decode(self, step: DecodeStep) -> torch.Tensor:
        """Compute a token of each row, and return their logits ``[rows, vocabulary]``."""
        return self.run_rows(step)

    def run_chunk(self, chunk: Chunk, *, counts: bool = True) -> torch.Tensor:
        """Compute a chunk.

        Args:
            chunk: of whole blocks, padding included.
            counts: whether what comes back is real; while a device traces, it is garbage.
        """
        first, length = chunk.first_row, len(chunk.token_ids)
        ids, positions = torch.zeros(2, 1, chunk.num_rows, dtype=torch.int64)
        ids[0, first : first + length] = torch.tensor(chunk.token_ids)
        positions[0, first : first + length] = torch.arange(chunk.start, chunk.end)
        tkv, padding = torch.tensor([len(chunk.block_table) * BLOCK_SIZE]), torch.tensor([chunk.left_padding])
        read = self._read(ids)
        if (rows := self.images.get(chunk.request_id)) is not None:
            places, own = rows.within(chunk.start, chunk.end)
            read[0, first + places] = own
        inputs = (read, positions, torch.tensor([chunk.slots]), torch.tensor([chunk.block_table]), tkv, padding)
        logits = self._run("prefill", inputs, counts=counts)
        last = first + length - 1 - chunk.num_rows + PREFILL_ROWS
        return logits[0, last : last + 1]

    def run_rows(self, step: DecodeStep, *, counts: bool = True) -> torch.Tensor:
        """Compute a token of each row; ``counts`` is as in ``run_chunk``."""
        ids, positions, slots = (
            torch.tensor(column)[:, None] for column in (step.token_ids, step.positions, step.slots)
        )
        padding = torch.tensor(step.left_padding)
        tkv = padding + positions[:, 0] + 1
        inputs = (self._read(ids), positions, slots, torch.tensor(step.block_tables), tkv, padding)
        return self._run("decode", inputs, counts=counts)[:, -1]

    def logits(self, hidden: torch.Tensor) -> Logits:
        """Return what rows of logits are: the device has computed them."""
        return Logits(hidden, hidden.argmax(-1).tolist(), hidden.isfinite().all(-1).tolist())

    def clear(self, blocks: Sequence[int]) -> None:
        """Leave them: what is on the device cannot be written from here, and is masked until it is written again."""

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what the device reads of tokens ``[rows, tokens]``."""
        if self.embed is None:
            return ids
        with torch.no_grad():
            rows: torch.Tensor = self.embed(ids)
        return rows

    def _run(self, function: str, inputs: Sequence[torch.Tensor], *, counts: bool) -> torch.Tensor:
        with torch.no_grad():
            logits, *caches = self.calls[function](*inputs, *self.caches)
        if counts:
            self.caches = caches
        return logits


def make_device_caches(plan: GenerationPlan, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return keys and values of each layer in turn, all zero: ``[blocks, block size, key heads, size]``."""
    # Of several ranks, each has the keys and values of its own heads.
    shape = (plan.rules.num_blocks, BLOCK_SIZE, plan.facts.num_kv_heads // plan.ranks, plan.facts.head_size)
    return [torch.zeros(shape, dtype=dtype) for _ in range(2 * len(plan.layer_kinds))]


def get_embedding(causal: Any) -> "nn.Module":
    """Return what makes of ids what the first layer of a model of transformers reads."""
    embedding: nn.Module = causal.get_input_embeddings()
    return embedding


def bind_device_runner(
    run: Run,
    compiled: Mapping[Program, CompiledProgram],
    weights: Mapping[str, torch.Tensor],
    embed: "nn.Module | None",
    images: Mapping[int, ImageRows],
) -> DeviceRunner:
    """Bind both Programs.

    Args:
        run: its plan and its dtype.
        compiled: the Programs.
        weights: the checkpoint's.
        embed: from ids to what the first layer reads; None where the device reads ids.
        images: a mapping that has, when a prompt is computed, the rows of its images.
    """
    calls = {program.function: made.bind(weights) for program, made in compiled.items()}
    return DeviceRunner(calls, generation_plan(run), getattr(torch, run.config.model.dtype), embed, images)
