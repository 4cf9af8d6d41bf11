"""Load: weights into memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sendnn_pipeline.config.resolve import Run

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A run and its weights."""

    run: Run
    module: "nn.Module"


class Load:
    """``Run`` to ``LoadedModel``."""

    name = "load"

    def run(self, given: Run) -> LoadedModel:
        """Load the encoder in the run's dtype."""
        from sendnn_pipeline.models.loader import load_encoder

        return LoadedModel(given, load_encoder(given.model.folder, given.config.model.dtype))
