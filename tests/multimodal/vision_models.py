"""Tiny vision-language models of each architecture, with random weights, and pictures."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    GraniteConfig,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessorPil,
    Mistral3Config,
    MistralConfig,
    PixtralImageProcessorPil,
    SmolVLMConfig,
    SmolVLMImageProcessorPil,
)

from sendnn_pipeline.generation.messages import PromptImage
from sendnn_pipeline.multimodal.pictures import check_picture

ENDS, BEGINS, IMAGE = 256, 257, 258
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 9) for column in range(1, 9)]
TEXT: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "eos_token_id": ENDS,
    "bos_token_id": BEGINS,
}
GRANITE = {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "embedding_multiplier": 2.0, "logits_scaling": 3.0}
VISION = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGLIP = VISION | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "vision_use_head": False}
CLIP = VISION | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 24}
PIXTRAL = VISION | {"model_type": "pixtral", "image_size": 64, "patch_size": 8, "head_dim": 12}
GRID = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{% if part.type == 'image' %}PLACEHOLDER\n{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def _llava(vision: dict[str, Any], strategy: str, layer: Any) -> LlavaNextConfig:
    return LlavaNextConfig(
        vision_config=vision,
        text_config=GraniteConfig(**TEXT, **GRANITE),
        image_token_id=IMAGE,
        image_grid_pinpoints=GRID,
        vision_feature_select_strategy=strategy,
        vision_feature_layer=layer,
    )


def _tiles(kind: Any, vision_type: str) -> Any:
    vision = VISION | {"model_type": vision_type, "image_size": 32, "patch_size": 8}
    return kind(vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2)


LLAVA_PROCESSOR = LlavaNextImageProcessorPil(
    size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=GRID
)
TILES = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 32}}
# By name: the configuration, the image processor, what the processor as a whole says, and the placeholder.
MODELS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "llava_next": (lambda: _llava(SIGLIP, "full", [-2, -1]), LLAVA_PROCESSOR, {"patch_size": 8}, "<image>"),
    "llava_next_clip": (
        lambda: _llava(CLIP, "default", -2),
        LLAVA_PROCESSOR,
        {"patch_size": 8, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
        "<image>",
    ),
    "mistral3": (
        lambda: Mistral3Config(
            vision_config=PIXTRAL,
            text_config=MistralConfig(**TEXT, sliding_window=None),
            image_token_id=IMAGE,
            spatial_merge_size=2,
        ),
        PixtralImageProcessorPil(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8}),
        {"patch_size": 8, "spatial_merge_size": 2},
        "[IMG]",
    ),
    "idefics3": (
        lambda: _tiles(Idefics3Config, "idefics3_vision"),
        Idefics3ImageProcessorPil(**TILES),
        {"image_seq_len": 4},
        "<image>",
    ),
    "smolvlm": (
        lambda: _tiles(SmolVLMConfig, "smolvlm_vision"),
        SmolVLMImageProcessorPil(**TILES),
        {"image_seq_len": 4},
        "<image>",
    ),
}


def make_vision_model(folder: Path, name: str) -> Path:
    """Write a checkpoint; larger weights than usual make it surer of its next token."""
    torch.manual_seed(0)
    config, processor, whole, placeholder = MODELS[name]
    model = AutoModelForImageTextToText.from_config(config())
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 4
    model.save_pretrained(folder)
    if name == "llava_next":
        processor.save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps(whole))
    else:
        values = {**whole, "image_processor": json.loads(processor.to_json_string())}
        (folder / "processor_config.json").write_text(json.dumps(values))
    tokenizer(placeholder).save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("PLACEHOLDER", placeholder))
    return folder


def tokenizer(placeholder: str) -> Tokenizer:
    """Return one of bytes and of special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    special = ["</s>", "<s>", placeholder, "[IMG_BREAK]", "[IMG_END]", "<fake_token_around_image>", "<global-img>"]
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in [*special, *PLACES]])
    return made


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture of noise over a slope."""
    noise = np.random.default_rng(seed).integers(0, 128, (height, width, 3))
    slope = np.linspace(0, 127, width)[None, :, None]
    return Image.fromarray((noise + slope).astype(np.uint8))


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture's file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def prompt_of(run, placeholder, text, files):
    """Return the token ids of a prompt, and its images."""
    layout = run.plan.images.layout
    pictures = [check_picture(file) for file in files]
    expanded = [layout.expand(one.width, one.height) for one in pictures]
    ids = tokenizer(placeholder).encode(text.format(*expanded)).ids
    counts = [one.count(placeholder) for one in expanded]
    images = [PromptImage(one.data, one.digest, count) for one, count in zip(pictures, counts, strict=True)]
    return ids, images
