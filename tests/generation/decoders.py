"""Tiny decoders of many architectures, with random weights, and real tokenizers."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
GPT = {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
PLAIN = {name: value for name, value in SIZES.items() if name not in ("num_key_value_heads", "intermediate_size")}
SMALL_HEADS = SIZES | {"head_dim": 8}
GRANITE = {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "embedding_multiplier": 2.0}
SLIDING, FULL = "sliding_attention", "full_attention"
# By the configuration's class; what each adds is why it is here.
KNOWN: dict[str, dict[str, Any]] = {
    "Llama": SIZES,
    "Granite": SIZES | GRANITE | {"logits_scaling": 3.0},
    "Qwen2": SIZES,
    "Qwen3": SMALL_HEADS,
    "Mistral": SIZES | {"sliding_window": 20},
    "Gemma3Text": SMALL_HEADS | {"sliding_window": 24, "num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2},
    "GPT2": GPT | {"n_positions": 512},
    "OPT": PLAIN | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "Phi3": SIZES,
    "Olmo2": SIZES,
    "GPTNeoX": PLAIN | {"intermediate_size": 64},
    "Cohere": SIZES,
    "Starcoder2": SIZES,
    "SmolLM3": SIZES,
    "Glm": SMALL_HEADS,
    "GraniteMoeHybrid": SIZES
    | {"num_local_experts": 0, "num_experts_per_tok": 0, "layer_types": ["attention"] * 2}
    | {"shared_intermediate_size": 64, "mamba_n_heads": 2, "position_embedding_type": "rope"},
}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
MLA = {
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **{"n_routed_experts": 2, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32},
}
REFUSED: dict[str, dict[str, Any]] = {
    "GptOss": SMALL_HEADS | EXPERTS | {"layer_types": [FULL] * 2},
    "Gemma2": SMALL_HEADS,
    "Falcon": PLAIN,
    "StableLm": SIZES,
    "Bloom": GPT | {"hidden_size": 32},
    "DeepseekV3": SIZES | MLA,
}


def make_decoder(folder: Path, name: str, sizes: dict[str, Any], scale: float = 1.0) -> Path:
    """Write a checkpoint.

    Args:
        folder: that is filled.
        name: of the configuration's class, without ``Config``.
        sizes: its arguments.
        scale: of the weights; larger ones make a model surer of its next token.
    """
    torch.manual_seed(0)
    sizes = {key: value for key, value in sizes.items() if not (name == "Bloom" and key == "n_embd")}
    model = AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**sizes))
    for parameter in model.parameters():
        parameter.data *= scale
    model.save_pretrained(folder)
    words = {f"t{index}": index for index in range(128)}
    Tokenizer(models.WordLevel(words, unk_token="t3")).save(str(folder / "tokenizer.json"))
    return folder
