"""What is handed to a compile backend for a run of generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.engines.group import sum_parts
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.image_plan import PlannedImages
from sendnn_pipeline.generation.layers import LayerKind, check_layers, find_kinds
from sendnn_pipeline.generation.model.attention import register_attention
from sendnn_pipeline.generation.model.decoder import HIDDEN, LOGITS, ChunkLayer, Embed, Head, TokenLayer
from sendnn_pipeline.generation.model.merge import Merge
from sendnn_pipeline.generation.model.residual import keep_residual
from sendnn_pipeline.generation.model.scores import writes_scores
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.programs import (
    BATCH,
    BLOCKS,
    DECODE,
    EMBED,
    MERGE,
    PREFILL,
    PROMPTS,
    QUERIES,
    ROWS,
    TOKENS,
    kind_of,
    part_of,
)
from sendnn_pipeline.generation.programs import (
    LOGITS as LOGITS_PART,
)
from sendnn_pipeline.generation.quantized import with_quantized
from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of
from sendnn_pipeline.generation.text_model import load_text_model
from sendnn_pipeline.models.parameters import checkpoint_names
from sendnn_pipeline.models.shards import ShardPlan
from sendnn_pipeline.programs.program import Program

if TYPE_CHECKING:
    from torch import nn


@dataclass
class GenerationGraphs:
    """The graphs of a run. The model is loaded once, when the first of them is traced."""

    run: Run
    weights: Mapping[str, torch.Tensor]
    cache: Sequence[torch.Tensor]
    """Keys and values of one layer."""
    shards: ShardPlan | None = None
    """How the model is divided among ranks; None where there is one."""

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        part = part_of(program)
        is_layer = part in (PREFILL, DECODE)
        inputs = {
            EMBED: self._embed_inputs,
            MERGE: self._merge_inputs,
            PREFILL: self._prefill_inputs,
            DECODE: self._decode_inputs,
            LOGITS_PART: self._logits_inputs,
        }
        return Graph(
            program,
            build=lambda: self._build(part, kind_of(program)),
            inputs=inputs[part](program),
            outputs=LOGITS if part == LOGITS_PART else HIDDEN,
            dtype=self.run.config.model.dtype,
            parameters=lambda: self.kinds[kind_of(program)].parameters if is_layer else self._of_parts,
            shares_weights=True,
        )

    @property
    def images(self) -> PlannedImages | None:
        """How the model takes images."""
        return generation_plan(self.run).images

    @cached_property
    def causal(self) -> "nn.Module":
        """The model of transformers.

        Raises:
            ModelError: it is not made of layers that can be compiled by themselves.
        """
        model = load_text_model(self.run, register_attention(), None if self.shards is None else self.weights)
        keep_residual(model)
        # Before anything is summed: ranks that find their Programs in the store do not come here.
        check_layers(model, self.run.model.folder, self.cache)
        if self.shards is not None:
            sum_parts(model, self.shards)
        return model

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The checkpoint's name of every tensor of the modules that is the checkpoint's."""
        weights = self.weights
        if self.images is not None:
            vision = set(self.images.parts.vision)
            weights = {name: weights[name] for name in weights if not vision & set(name.split("."))}
        found = checkpoint_names(self.causal.state_dict(), weights)
        return {f"causal.{name}": original for name, original in found.items()}

    @property
    def _of_parts(self) -> dict[str, str]:
        """The same for Programs that are no layer's."""
        return with_quantized(self.parameters, self.weights)

    @cached_property
    def kinds(self) -> dict[str, LayerKind]:
        """The kinds of layers, by their names in the plan."""
        types = generation_plan(self.run).layer_kinds
        kinds = find_kinds(self.causal, types, self.parameters, self.run.model.folder)
        members = {kind: [index for index, other in enumerate(types) if other == kind] for kind in kinds}
        return {
            kind: replace(found, parameters=with_quantized(found.parameters, self.weights, members[kind]))
            for kind, found in kinds.items()
        }

    def _build(self, part: str, kind: str) -> "nn.Module":
        if part in (EMBED, MERGE):
            return (Embed if part == EMBED else Merge)(self.causal)
        if part == LOGITS_PART:
            return Head(self.causal)
        first = self.kinds[kind].first
        return (
            ChunkLayer(self.causal, first, scores=self._scores) if part == PREFILL else TokenLayer(self.causal, first)
        )

    @property
    def _scores(self) -> bool:
        """Whether attention to prompts writes its scores out."""
        plan = generation_plan(self.run)
        context = num_blocks_of(plan.max_model_len) * BLOCK_SIZE
        num_scores = plan.facts.num_heads // plan.ranks * plan.rules.max_prefill_tokens * context
        return writes_scores(self.run.config.model.dtype, num_scores)

    def _embed_inputs(self, program: Program) -> tuple[Input, ...]:
        return tuple(_integers(("input_ids", "positions"), _example(program, TOKENS, 3), TOKENS))

    def _merge_inputs(self, program: Program) -> tuple[Input, ...]:
        size = _example(program, TOKENS, 3)
        numbers = _integers(("input_ids", "positions", "is_image"), size, TOKENS)
        dtype = getattr(torch, self.run.config.model.dtype)
        return (*numbers, Input("rows", torch.zeros(size, self.run.model.hidden_size, dtype=dtype), {0: TOKENS}))

    def _prefill_inputs(self, program: Program) -> tuple[Input, ...]:
        tokens, prompts, queries, blocks = (
            _example(program, name, above) for name, above in ((TOKENS, 6), (PROMPTS, 2), (QUERIES, 3), (BLOCKS, 4))
        )
        return (
            self._hidden(tokens, TOKENS),
            *_integers(("positions", "slots", "row_of_token", "query_of_token"), tokens, TOKENS),
            Input("queries", torch.zeros(prompts, queries, dtype=torch.int64), {0: PROMPTS, 1: QUERIES}),
            Input("block_tables", torch.zeros(prompts, blocks, dtype=torch.int64), {0: PROMPTS, 1: BLOCKS}),
            *self._cache_inputs(),
        )

    def _decode_inputs(self, program: Program) -> tuple[Input, ...]:
        batch, blocks = _example(program, BATCH, 3), _example(program, BLOCKS, 5)
        return (
            self._hidden(batch, BATCH),
            *_integers(("positions", "slots"), batch, BATCH),
            *_integers(("blocks", "row_of_block", "start_of_block"), blocks, BLOCKS),
            *_integers(("first_blocks",), batch, BATCH),
            *self._cache_inputs(),
        )

    def _logits_inputs(self, program: Program) -> tuple[Input, ...]:
        return (self._hidden(_example(program, ROWS, 3), ROWS),)

    def _hidden(self, size: int, dim: str) -> Input:
        return Input("hidden", torch.zeros(size, self.run.model.hidden_size), {0: dim})

    def _cache_inputs(self) -> list[Input]:
        return [Input(name, cache, written=True) for name, cache in zip(("keys", "values"), self.cache, strict=True)]


def _integers(names: Sequence[str], size: int, dim: str) -> list[Input]:
    return [Input(name, torch.zeros(size, dtype=torch.int64), {0: dim}) for name in names]


def _example(program: Program, name: str, above_min: int) -> int:
    """Return a size within a range, large enough not to be taken for a constant; or the fixed one."""
    dim = program.dim(name)
    return dim.max if dim.min is None else min(above_min + dim.min, dim.max)
