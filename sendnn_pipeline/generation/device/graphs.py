"""What is handed to a device's compiler: the model whole, as prefill and as decode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.engines.group import sum_parts
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.device.decoder import (
    DECODE_ROWS,
    EMBEDS,
    INPUTS,
    PREFILL_ROWS,
    EmbeddedDecoder,
    WholeDecoder,
    register_attention,
)
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.programs import BATCH, BLOCKS, PREFILL
from sendnn_pipeline.generation.text_model import load_text_model
from sendnn_pipeline.models.shards import ShardPlan
from sendnn_pipeline.programs.program import Program

if TYPE_CHECKING:
    from torch import nn


@dataclass
class DeviceGraphs:
    """The graphs of a run, and the model that they are of."""

    run: Run
    weights: Mapping[str, torch.Tensor]
    caches: Sequence[torch.Tensor]
    """Keys and values of each layer in turn."""
    shards: ShardPlan | None = None
    """How the model is divided among ranks; None where there is one."""

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        prefill = program.function == PREFILL
        rows, tokens = (1, program.dims[0].max) if prefill else (program.dim(BATCH).smallest, 1)
        images = generation_plan(self.run).images is not None
        kind = EmbeddedDecoder if images else WholeDecoder
        sizes = dict.fromkeys(INPUTS[:3], (rows, tokens)) | {INPUTS[3]: (rows, program.dim(BLOCKS).smallest)}
        axes = {0: program.dims[0].name} if not prefill else {}
        inputs = [
            Input(name, torch.zeros(sizes.get(name, (rows,)), dtype=torch.int64), axes | _blocks_axis(name))
            for name in INPUTS
        ]
        if images:
            dtype = getattr(torch, self.run.config.model.dtype)
            inputs[0] = Input(EMBEDS, torch.zeros(rows, tokens, self.run.model.hidden_size, dtype=dtype), axes)
        caches = [Input(f"past_key_value_states_{index}", cache) for index, cache in enumerate(self.caches)]
        return Graph(
            program,
            build=lambda: kind(self.causal, PREFILL_ROWS if prefill else DECODE_ROWS).eval(),
            inputs=(*inputs, *caches),
            outputs=("logits", *(entry.name for entry in caches)),
            dtype=self.run.config.model.dtype,
            decoder=True,
        )

    @cached_property
    def causal(self) -> "nn.Module":
        """The model of transformers, or this rank's part of it."""
        model = load_text_model(self.run, register_attention(), None if self.shards is None else self.weights)
        if self.shards is not None:
            sum_parts(model, self.shards)
        return model


def _blocks_axis(name: str) -> dict[int, str]:
    return {1: BLOCKS} if name == INPUTS[3] else {}
