"""A tiny Llama as a GGUF file, written as llama.cpp's converter does, and packages that carry such files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ["<|end|>", "<|start|>"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), "Ġt", "Ġa", "12"]
MERGES = ["Ġ t", "Ġ a", "1 2"]
TEMPLATE = "{% for message in messages %}<|start|>{{ message['content'] }}<|end|>{% endfor %}"
HEADS, KV_HEADS = 4, 2


def tiny_llama(*, tied: bool = True) -> LlamaForCausalLM:
    """Return a random model of two layers in float32."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENS), tie_word_embeddings=tied, **sizes, **heads)).eval()


def write_gguf(
    file: Path,
    model: LlamaForCausalLM,
    *,
    arch: str = "llama",
    pre: str = "smollm",
    kinds: Mapping[str, Kind] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Write ``model``, and return its tensors by transformers' names, before they are quantized.

    Matrices are in Q8_0, but for those whose names end as one of ``kinds`` does.
    """
    writer, config = GGUFWriter(file, arch), model.config
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    for name, value in tensors.items():
        known = _gguf_name(name)
        kind = Kind.F32 if value.ndim == 1 else kind_of(name, kinds)
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(known.split(".")[-2])
        laid_out = _permuted(value, heads) if heads else value
        writer.add_tensor(known, quantize(laid_out, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def kind_of(name: str, kinds: Mapping[str, Kind]) -> Kind:
    """Return how a matrix of that name is written."""
    return next((kind for part, kind in kinds.items() if name.endswith(f"{part}.weight")), Kind.Q8_0)


def _gguf_name(name: str) -> str:
    parts = {
        "model.layers": "blk", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for theirs, ours in parts.items():
        name = name.replace(theirs, ours)
    return name


def _permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Lay out the halves that are rotated together as llama.cpp does: in turns."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)


def write_wheel(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Write ``tiny_gguf==1.0`` with ``files``, and return the variables by which pip finds it, and nothing else."""
    info = "tiny_gguf-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_gguf-1.0-py3-none-any.whl", "w") as wheel:
        for name, file in files.items():
            wheel.write(file, f"tiny_gguf/{name}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
