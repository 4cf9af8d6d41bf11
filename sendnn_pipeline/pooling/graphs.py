"""What is handed to a compile backend for a pooling run."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.engines.group import sum_parts
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.sharding import head_size_of, sizes_of_rank
from sendnn_pipeline.models.loader import Part, load_classifier, load_encoder
from sendnn_pipeline.models.parameters import checkpoint_names
from sendnn_pipeline.models.shards import ShardPlan
from sendnn_pipeline.pooling.config import pooling_config
from sendnn_pipeline.pooling.layers import make_layers
from sendnn_pipeline.pooling.model import OUTPUTS, ClassifierModel, PooledModel
from sendnn_pipeline.pooling.padding_check import check_padding
from sendnn_pipeline.pooling.plan import PoolingPlan, pooling_plan
from sendnn_pipeline.pooling.runner import ThirdInput, pad, pooling_mask, token_type_ids
from sendnn_pipeline.pooling.shapes import BATCH, LENGTH
from sendnn_pipeline.programs.program import Dim, Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

INPUTS = ["input_ids", "attention_mask"]


@dataclass
class PoolingGraphs:
    """The graphs of a run. The model is loaded once, when the first of them is traced: transformers takes seconds."""

    run: Run
    weights: "Mapping[str, torch.Tensor]"
    shards: ShardPlan | None = None
    """How the model is divided among ranks; None where there is one."""

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        batch, length = _example_size(program.dim(BATCH), 2), _example_size(program.dim(LENGTH), 16)
        example = pad([], batch, length, self.run.model.pad_token_id)
        names, third = INPUTS, third_input(pooling_plan(self.run))
        if third is not None:
            example, names = (*example, third([], [], batch, length)), [*names, third.__name__]
        axes = {0: BATCH, 1: LENGTH}
        return Graph(
            program,
            build=lambda: self.module,
            inputs=tuple(Input(name, tensor, axes) for name, tensor in zip(names, example, strict=True)),
            outputs=OUTPUTS,
            dtype=self.run.config.model.dtype,
            parameters=lambda: self.parameters,
            concurrent_calls=self.run.plan.concurrent_steps,
        )

    @cached_property
    def module(self) -> "nn.Module":
        """The model with its pooling, or the classifier."""
        plan, folder, dtype = pooling_plan(self.run), self.run.model.folder, self.run.config.model.dtype
        model = (load_classifier if plan.classifies else load_encoder)(folder, dtype, self._part())
        if self.shards is not None:
            sum_parts(model, self.shards)
        if plan.classifies:
            whole: nn.Module = ClassifierModel(model)
        else:
            engine, _ = pooling_config(self.run.config)
            whole = PooledModel(model, engine.pooling, make_layers(plan.modules, self.weights))
        if self.shards is None:
            # A part alone computes nothing.
            check_padding(whole, third_input(plan), self.run.model, dtype)
        return whole

    def _part(self) -> Part | None:
        if self.shards is None:
            return None
        text = self.run.model.text_config
        return Part(sizes_of_rank(text, self.run.plan.ranks, head_size_of(text)), self.weights)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The checkpoint's name of every tensor of the module that is the checkpoint's."""
        return checkpoint_names(self.module.state_dict(), self.weights)


def third_input(plan: PoolingPlan) -> ThirdInput | None:
    """Return what makes the input that Programs take beside ids and mask, under its name; None without one."""
    if plan.token_type_ids:
        return token_type_ids
    return pooling_mask if plan.excludes_prompt else None


def _example_size(dim: Dim, above_min: int) -> int:
    """Return a size within a range, large enough not to be taken for a constant; or the fixed one."""
    return dim.max if dim.min is None else min(above_min + dim.min, dim.max)
