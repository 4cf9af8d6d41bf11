"""The model of a run as transformers has it: what of it generates text, or a rank's part of that."""

from typing import TYPE_CHECKING

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.sharding import sizes_of_rank
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.models.loader import Part, load_causal, load_causal_part, load_language

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn


def load_text_model(run: Run, attention: str, weights: "Mapping[str, torch.Tensor] | None") -> "nn.Module":
    """Load the model with its head, and without what only images need.

    Args:
        run: its model, dtype and plan.
        attention: name of the implementation, which transformers knows.
        weights: of this rank, where it is one of several; None loads all.

    Raises:
        ModelError: it cannot be loaded.
    """
    folder, dtype, plan = run.model.folder, run.config.model.dtype, generation_plan(run)
    part = None
    if weights is not None:
        part = Part(sizes_of_rank(run.model.text_config, plan.ranks, plan.facts.head_size), weights)
    if plan.images is not None:
        return load_language(folder, dtype, attention, plan.images.parts.vision, part)
    return load_causal(folder, dtype, attention) if part is None else load_causal_part(folder, dtype, attention, part)
