"""LLaVA-NeXT, such as Granite Vision: tiles of a grid that fits the image, behind the image as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LlavaNextLayout:
    """Tokens of an image: its patches as a whole, then those of the tiles without their padding, each row ended."""

    placeholder: str
    token_id: int
    pinpoints: tuple[tuple[int, int], ...]
    """Heights and widths of the grids, in pixels."""
    tile: int
    """Pixels of a tile's edge."""
    patch: int
    """Pixels of a patch's edge."""
    extra: int
    """Rows of an image as a whole beside its patches."""

    def expand(self, width: int, height: int) -> str:
        """Return the placeholder, once a row."""
        return self.placeholder * self.num_rows(width, height)

    def num_rows(self, width: int, height: int) -> int:
        """Return how many rows an image has."""
        grid_height, grid_width = best_grid(width, height, self.pinpoints)
        patches = self.tile // self.patch
        rows, columns = patches * (grid_height // self.tile), patches * (grid_width // self.tile)
        # As transformers takes the padding off again: half of it at each side, rounded down.
        if width / height > columns / rows:
            rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
        return rows * columns + rows + patches * patches + self.extra


def best_grid(width: int, height: int, pinpoints: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return height and width of the grid that preserves most of an image and wastes the fewest pixels."""

    def worth(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[1] / width, grid[0] / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - grid[0] * grid[1]

    return max(pinpoints, key=worth)


class LlavaNextAdapter(AdapterBase):
    """LlavaNextForConditionalGeneration."""

    examples = "Granite Vision 3.3, LLaVA 1.6"
    parts = Parts("language_model", ("vision_tower", "multi_modal_projector", "image_newline"))

    def layout(self, model: ModelFacts) -> LlavaNextLayout:
        """Read config.json and the processor's."""
        values, config = processor_values(model), model.config
        vision = config["vision_config"]
        strategy = values.get("vision_feature_select_strategy") or config.get("vision_feature_select_strategy")
        extra = int(values.get("num_additional_image_tokens") or 0) - ((strategy or "default") == "default")
        token_id = image_token_id(model)
        pinpoints = values.get("image_grid_pinpoints") or config["image_grid_pinpoints"]
        return LlavaNextLayout(
            placeholder=token_text(model, token_id),
            token_id=token_id,
            pinpoints=tuple((int(height), int(width)) for height, width in pinpoints),
            tile=edge_of(values.get("size"), int(vision["image_size"])),
            patch=int(values.get("patch_size") or vision["patch_size"]),
            extra=extra,
        )

    def processor(self, model: ModelFacts) -> Any:
        """Return the image processor."""
        from transformers import LlavaNextImageProcessorPil

        return LlavaNextImageProcessorPil.from_pretrained(model.folder, local_files_only=True)
