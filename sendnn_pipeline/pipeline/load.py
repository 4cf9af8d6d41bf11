"""Load: weights into memory."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sendnn_pipeline.config.resolve import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A run and its weights."""

    run: Run
    weights: "Mapping[str, torch.Tensor]"
    """By the checkpoint's names; empty where the backend needs the module anyway."""
    module: "Callable[[], nn.Module]"
    """Builds the module once, for what has to be traced; importing transformers takes seconds."""


class Load:
    """``Run`` to ``LoadedModel``."""

    name = "load"

    def __init__(self, traces_always: bool) -> None:
        self.traces_always = traces_always

    def run(self, given: Run) -> LoadedModel:
        """Map the weights, or build the module at once where it is needed in any case."""

        @lru_cache(maxsize=1)
        def module() -> "nn.Module":
            from sendnn_pipeline.models.loader import load_classifier, load_encoder

            load = load_classifier if given.classifies else load_encoder
            return load(given.model.folder, given.config.model.dtype)

        if self.traces_always:
            module()
            return LoadedModel(given, {}, module)
        from sendnn_pipeline.models.weights import load_weights

        return LoadedModel(given, load_weights(given.model.weight_files, given.config.model.dtype), module)
