"""How many tokens a model's positions take. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError

# Model types whose position 0 is the padding index plus one, with the padding index where config.json has none.
PADDING_INDEX: Mapping[str, int | None] = {
    "altclip_text_model": 1,
    "bridgetower_text_model": 1,
    "camembert": 1,
    "clap_text_model": 1,
    "data2vec-text": 1,
    "esm": None,
    "ibert": 1,
    "layoutlmv3": 1,
    "lilt": 0,
    "longformer": 1,
    "luke": 1,
    "markuplm": 0,
    "mpnet": 1,
    "roberta": 1,
    "roberta-prelayernorm": 1,
    "xlm-roberta": 1,
    "xlm-roberta-xl": 1,
    "xmod": 1,
}
# Counts from 1 whatever its config.json says.
FIXED = "mpnet"


def read_positions(text: Mapping[str, Any], model_type: str, file: Path) -> tuple[int, int]:
    """Return the most tokens, 0 where nothing limits them, and the token id that pads.

    Args:
        text: the part of config.json that describes the text model.
        model_type: of the model.
        file: config.json, for errors.

    Raises:
        ModelError: positions begin behind a padding index that is not there.
    """
    limit = int(text.get("max_position_embeddings") or text.get("n_positions") or 0)
    pad = text.get("pad_token_id", PADDING_INDEX.get(model_type, 0))
    if model_type not in PADDING_INDEX:
        # Padding is masked, so any token will do where the model has none of its own.
        return limit, pad if isinstance(pad, int) and 0 <= pad < int(text["vocab_size"]) else 0
    if pad is None:
        raise ModelError(f"{file} has no pad_token_id, and positions of {model_type} begin behind it")
    first = PADDING_INDEX[FIXED] if model_type == FIXED else pad
    return max(0, limit - int(first or 0) - 1), int(pad)
