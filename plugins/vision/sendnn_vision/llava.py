"""LLaVA 1.5: an image is made one square, and each of its patches is a token."""

from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.multimodal.adapters import AdapterBase, Parts, image_token_id, token_text


@dataclass(frozen=True)
class LlavaLayout:
    """Tokens of an image: as many for each."""

    placeholder: str
    token_id: int
    rows: int

    def expand(self, width: int, height: int) -> str:
        """Return the placeholder, once a row."""
        return self.placeholder * self.rows


class LlavaAdapter(AdapterBase):
    """LlavaForConditionalGeneration."""

    examples = "LLaVA 1.5"
    parts = Parts("language_model", ("vision_tower", "multi_modal_projector"))

    def layout(self, model: ModelFacts) -> LlavaLayout:
        """Read config.json."""
        vision, token_id = model.config["vision_config"], image_token_id(model)
        patches = (vision["image_size"] // vision["patch_size"]) ** 2
        extra = int(model.config.get("vision_feature_select_strategy", "default") == "full")
        return LlavaLayout(token_text(model, token_id), token_id, patches + extra)

    def processor(self, model: ModelFacts) -> Any:
        """Return the image processor."""
        from transformers import CLIPImageProcessorPil

        return CLIPImageProcessorPil.from_pretrained(model.folder, local_files_only=True)
