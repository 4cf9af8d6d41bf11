"""Mistral 3: images as they are, in rows of patches of which several are merged to one."""

from dataclasses import dataclass
from functools import partial
from math import floor
from typing import Any

from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.multimodal.adapters import (
    AdapterBase,
    Parts,
    edge_of,
    image_token_id,
    processor_values,
    token_text,
)

BREAK, END = "[IMG_BREAK]", "[IMG_END]"


@dataclass(frozen=True)
class Mistral3Layout:
    """Tokens of an image: row by row, each row ended by a token of its own."""

    placeholder: str
    token_id: int
    longest: int
    """Pixels of the longer edge, at most."""
    patch: int
    """Pixels of the edge of what becomes one row."""

    def expand(self, width: int, height: int) -> str:
        """Return the rows of an image."""
        longer = max(width, height)
        ratio = longer / self.longest
        if ratio > 1:
            width, height = floor(width / ratio), floor(height / ratio)
        if not (width and height):
            minimum = -(-longer // self.longest)
            raise ValueError(f"is too narrow: beside {longer} pixels, the other edge must have at least {minimum}")
        columns, rows = -(-width // self.patch), -(-height // self.patch)
        if rows * columns == 1:
            # Of one row alone transformers' own model takes the numbers for rows.
            raise ValueError(f"is too small: it must be at least {self.patch + 1} pixels wide or high")
        return BREAK.join([self.placeholder * columns] * rows) + END


class Mistral3Adapter(AdapterBase):
    """Mistral3ForConditionalGeneration, which PixtralProcessor prepares images for; that one needs torchvision."""

    examples = "Mistral Small 3.1 and 3.2, Ministral 3"
    parts = Parts("language_model", ("vision_tower", "multi_modal_projector"))

    def layout(self, model: ModelFacts) -> Mistral3Layout:
        """Read config.json and the processor's."""
        token_id = image_token_id(model)
        longest = edge_of(processor_values(model).get("size"), int(model.config["vision_config"]["image_size"]))
        return Mistral3Layout(token_text(model, token_id), token_id, longest, _merged_patch(model))

    def processor(self, model: ModelFacts) -> Any:
        """Return the image processor."""
        from transformers import PixtralImageProcessorPil

        processor: Any = PixtralImageProcessorPil.from_pretrained(model.folder, local_files_only=True)
        return partial(processor, patch_size=_merged_patch(model))


def _merged_patch(model: ModelFacts) -> int:
    merged: int = model.config["vision_config"]["patch_size"] * model.config["spatial_merge_size"]
    return merged
