"""What is handed to a compile backend for a run of generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.model.attention import register_attention
from sendnn_pipeline.generation.model.decoder import HIDDEN, LOGITS, Decode, Head, Prefill
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.programs import BATCH, BLOCKS, DECODE, LOGITS as LOGITS_FUNCTION, PREFILL, ROWS, TOKENS
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.models.loader import load_causal
from sendnn_pipeline.models.parameters import checkpoint_names
from sendnn_pipeline.programs.program import Program

if TYPE_CHECKING:
    from torch import nn

MODULES = {PREFILL: Prefill, DECODE: Decode, LOGITS_FUNCTION: Head}


@dataclass
class GenerationGraphs:
    """The graphs of a run. The model is loaded once, when the first of them is traced."""

    run: Run
    weights: Mapping[str, torch.Tensor]
    caches: Sequence[torch.Tensor]

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        function = program.function
        inputs = {PREFILL: self._prefill_inputs, DECODE: self._decode_inputs, LOGITS_FUNCTION: self._logits_inputs}
        return Graph(
            program,
            build=lambda: MODULES[function](self.causal),
            inputs=inputs[function](program),
            outputs=LOGITS if function == LOGITS_FUNCTION else HIDDEN,
            dtype=self.run.config.model.dtype,
            parameters=lambda: self.parameters,
        )

    @cached_property
    def causal(self) -> "nn.Module":
        """The model of transformers."""
        return load_causal(self.run.model.folder, self.run.config.model.dtype, register_attention())

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The checkpoint's name of every tensor of the modules that is the checkpoint's."""
        found = checkpoint_names(self.causal.state_dict(), self.weights)
        return {f"causal.{name}": original for name, original in found.items()}

    def _prefill_inputs(self, program: Program) -> tuple[Input, ...]:
        tokens, blocks = (_example(program, name, 3) for name in (TOKENS, BLOCKS))
        return (
            *_integers(("input_ids", "positions", "slots"), tokens, TOKENS),
            *_integers(("block_table",), blocks, BLOCKS),
            *self._cache_inputs(),
        )

    def _decode_inputs(self, program: Program) -> tuple[Input, ...]:
        batch, blocks = _example(program, BATCH, 3), _example(program, BLOCKS, 5)
        return (
            *_integers(("input_ids", "positions", "slots"), batch, BATCH),
            *_integers(("blocks", "row_of_block", "start_of_block"), blocks, BLOCKS),
            *self._cache_inputs(),
        )

    def _logits_inputs(self, program: Program) -> tuple[Input, ...]:
        dtype = getattr(torch, self.run.config.model.dtype)
        hidden = torch.zeros(_example(program, ROWS, 3), self.run.model.hidden_size, dtype=dtype)
        return (Input("hidden", hidden, {0: ROWS}),)

    def _cache_inputs(self) -> list[Input]:
        names = [f"{kind}_{layer}" for layer in range(len(self.caches) // 2) for kind in ("keys", "values")]
        return [Input(name, cache, written=True) for name, cache in zip(names, self.caches, strict=True)]


def make_caches(run: Run) -> list[torch.Tensor]:
    """Return keys and values of each layer in turn, all zero: what nobody wrote must not be a NaN."""
    plan, dtype = generation_plan(run), getattr(torch, run.config.model.dtype)
    facts, blocks = plan.facts, plan.rules.num_blocks
    keys, values = (blocks, facts.num_kv_heads, facts.head_size, BLOCK_SIZE), (facts.head_size,)
    shapes: Any = (keys, (*keys[:2], BLOCK_SIZE, *values))
    return [torch.zeros(shape, dtype=dtype) for _ in range(run.model.num_layers) for shape in shapes]


def _integers(names: Sequence[str], size: int, dim: str) -> list[Input]:
    return [Input(name, torch.zeros(size, dtype=torch.int64), {0: dim}) for name in names]


def _example(program: Program, name: str, above_min: int) -> int:
    """Return a size within a range, large enough not to be taken for a constant; or the fixed one."""
    dim = program.dim(name)
    return dim.max if dim.min is None else min(above_min + dim.min, dim.max)
