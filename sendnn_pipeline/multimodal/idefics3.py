"""Idefics 3 and SmolVLM: tiles of one size in rows and columns, and behind them the image as a whole."""

from dataclasses import dataclass
from math import ceil
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

AROUND, GLOBAL = "<fake_token_around_image>", "<global-img>"
# What transformers never makes an image larger than, in pixels.
LARGEST = 4096
TILE, LONGEST = 364, 4 * 364


@dataclass(frozen=True)
class Idefics3Layout:
    """Tokens of an image: each tile has the same number, behind its place."""

    placeholder: str
    token_id: int
    rows: int
    """Of each tile."""
    longest: int
    """Pixels that the longer edge is made to have."""
    tile: int
    """Pixels of a tile's edge."""
    splits: bool

    def expand(self, width: int, height: int) -> str:
        """Return the tiles of an image."""
        rows, columns = self.grid(width, height)
        whole = f"{AROUND}{GLOBAL}{self.placeholder * self.rows}{AROUND}"
        if not rows:
            return whole
        lines = [
            "".join(
                f"{AROUND}<row_{row}_col_{column}>{self.placeholder * self.rows}" for column in range(1, columns + 1)
            )
            for row in range(1, rows + 1)
        ]
        return "".join(f"{line}\n" for line in lines) + f"\n{whole}"

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return rows and columns of tiles; none where the image is one tile."""
        if not self.splits:
            return 0, 0
        width, height = _below(*_to_longest(width, height, self.longest), LARGEST)
        ratio = width / height
        if width >= height:
            columns = ceil(width / self.tile)
            rows = ceil(int(columns * self.tile / ratio) / self.tile)
        else:
            rows = ceil(height / self.tile)
            columns = ceil(int(rows * self.tile * ratio) / self.tile)
        return (rows, columns) if rows * columns > 1 else (0, 0)


def _to_longest(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the size of an image whose longer edge is made so long, the other even, as transformers rounds it."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        return width, max(height + height % 2, 1)
    width, height = int(longest * ratio), longest
    return max(width + width % 2, 1), height


def _below(width: int, height: int, most: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height and width > most:
        width, height = most, int(most / ratio)
    elif height > width and height > most:
        width, height = int(most * ratio), most
    return max(width, 1), max(height, 1)


class Idefics3Adapter(AdapterBase):
    """Idefics3ForConditionalGeneration."""

    examples = "Idefics3-8B-Llama3, SmolVLM"
    parts = Parts("text_model", ("vision_model", "connector"))

    def layout(self, model: ModelFacts) -> Idefics3Layout:
        """Read config.json and the processor's."""
        values, vision = processor_values(model), model.config["vision_config"]
        token_id = image_token_id(model)
        patches = int(vision["image_size"]) // int(vision["patch_size"])
        return Idefics3Layout(
            placeholder=token_text(model, token_id),
            token_id=token_id,
            rows=patches**2 // int(model.config["scale_factor"]) ** 2,
            longest=edge_of(values.get("size"), LONGEST),
            tile=edge_of(values.get("max_image_size"), TILE),
            splits=bool(values.get("do_image_splitting", True)),
        )

    def processor(self, model: ModelFacts) -> Any:
        """Return the image processor."""
        from transformers import Idefics3ImageProcessorPil

        return Idefics3ImageProcessorPil.from_pretrained(model.folder, local_files_only=True)


class SmolVLMAdapter(Idefics3Adapter):
    """SmolVLMForConditionalGeneration, whose processor needs torchvision for videos."""

    examples = "SmolVLM2"

    def processor(self, model: ModelFacts) -> Any:
        """Return the image processor."""
        from transformers import SmolVLMImageProcessorPil

        return SmolVLMImageProcessorPil.from_pretrained(model.folder, local_files_only=True)
