"""config.json documents of known models and of their look-alikes, as published; each with its source.

None of it is derived from ``conf/known``: what a pattern asks for is checked against what the models say.

Sources:
    fixtures: github.com/vllm-project/vllm-spyre, ``tests/fixtures/model_configs/<model>/config.json``.
    hub: huggingface.co/<model>, ``config.json``.
    gguf: metadata of the model's GGUF file at ollama.com.
    card: IBM's table of Granite 4.1's architecture (hidden size, layers, heads, KV heads, MLP size of 3B, 8B, 30B).
    registry: attributes that the registry of sendnn-inference 2.6.3 requires, where no file is published.
"""

from typing import Any

Document = dict[str, Any]

ALL = {"x86_64", "s390x", "ppc64le"}
NOT_Z = {"x86_64", "ppc64le"}


def granite(layers: int, hidden: int, heads: int, vocab: int, mlp: int, **more: Any) -> Document:
    return {
        "architectures": ["GraniteForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "max_position_embeddings": 131072,
        "model_type": "granite",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "vocab_size": vocab,
        **more,
    }


def hybrid(layers: int, hidden: int, heads: tuple[int, int], layer_types: list[str], **more: Any) -> Document:
    return {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "hidden_size": hidden,
        "layer_types": layer_types,
        "max_position_embeddings": 131072,
        "model_type": "granitemoehybrid",
        "num_attention_heads": heads[0],
        "num_experts_per_tok": 0,
        "num_hidden_layers": layers,
        "num_key_value_heads": heads[1],
        "num_local_experts": 0,
        "vocab_size": 100352,
        **more,
    }


def encoder(kind: str, architecture: str, sizes: tuple[int, int, int], positions: int = 514, **more: Any) -> Document:
    layers, hidden, vocab = sizes
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "max_position_embeddings": positions,
        "model_type": kind,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
        "vocab_size": vocab,
        **more,
    }


def mistral3(kind: str, layers: int, hidden: int, positions: int, **vision: int) -> Document:
    return {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "spatial_merge_size": 2,
        "text_config": {
            "head_dim": 128,
            "hidden_size": hidden,
            "max_position_embeddings": positions,
            "model_type": kind,
            "num_attention_heads": 32,
            "num_hidden_layers": layers,
            "num_key_value_heads": 8,
            "vocab_size": 131072,
        },
        "vision_config": {
            "head_dim": 64,
            "hidden_size": 1024,
            "image_size": 1540,
            "model_type": "pixtral",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        }
        | vision,
    }


# fixtures ibm-granite/granite-3.3-8b-instruct-FP8.
FP8 = {
    "quantization_config": {
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}},
        "format": "float-quantized",
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }
}
ATTENTION = ["attention"] * 40
# hub ibm-granite/granite-4.0-h-1b: four layers of attention among Mamba's.
MAMBA = (["mamba"] * 5 + ["attention"]) + (["mamba"] * 9 + ["attention"]) * 3 + ["mamba"] * 4
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
# registry. transformers before 4.50 left out of nested configurations what equals the model type's default, as the
# 32 heads of granite do; LLAVA_TEXT | HEADS is the file that later versions write.
LLAVA_TEXT = {
    "hidden_size": 2048,
    "max_position_embeddings": 131072,
    "model_type": "granite",
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "vocab_size": 49156,
}
HEADS = {"num_attention_heads": 32}
SIGLIP = {"hidden_size": 1152, "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27}
XLM, XLM_CLASSIFIER = "XLMRobertaModel", "XLMRobertaForSequenceClassification"


def llava(text: Document) -> Document:
    return {"model_type": "llava_next", "text_config": text, "vision_config": SIGLIP}


# By entry: its model's document, and the machines of the registry's table.
MODELS: dict[str, tuple[Document, set[str]]] = {
    # fixtures ibm-granite/granite-3.3-8b-instruct, -FP8.
    "granite-3.3-8b-instruct": (granite(40, 4096, 32, 49159, 12800), ALL),
    "granite-3.3-8b-instruct-fp8": (granite(40, 4096, 32, 49159, 12800) | FP8, ALL),
    # hub NbAiLab/nb-llama-3.1-8B, vtriple/Llama-3.1-8B-yara: files of meta-llama/Llama-3.1-8B.
    "llama-3.1-8b-instruct": (LLAMA_8B, ALL),
    # fixtures ibm-granite/granite-4-8b-dense, two versions: first in its hybrid form, then dense.
    "granite-4-8b-dense-hybrid": (hybrid(40, 4096, (32, 8), ATTENTION), ALL),
    "granite-4-8b-dense": (granite(40, 4096, 32, 100352, 12800), ALL),
    # card, with the vocabulary of granite-4-8b-dense and the quantization of granite-3.3-8b-instruct-FP8.
    "granite-4.1-8b-fp8": (granite(40, 4096, 32, 100352, 12800) | FP8, ALL),
    "granite-4.1-30b": (granite(64, 4096, 32, 100352, 32768), ALL),
    # registry.
    "swa-20b": (granite(44, 4096, 32, 100352, 12800, model_type="granite_swa"), ALL),
    "granite-vision-3.3-2b": (llava(LLAVA_TEXT), ALL),
    # hub mistralai/Mistral-Small-3.1-24B-Instruct-2503, of which 3.2 is an update of the weights.
    "mistral-small-3.2-24b-instruct-2506": (mistral3("mistral", 40, 5120, 131072), NOT_Z),
    # registry for the sizes; the other attributes as in the 8B.
    "ministral-3-14b-instruct-2512": (mistral3("ministral3", 40, 5120, 262144), ALL),
    # hub Ba2han/mistral_augment-multi-ft, a fine-tuned Ministral 3 8B.
    "ministral-3-8b-instruct-2512": (mistral3("ministral3", 34, 4096, 262144), ALL),
    # hub ibm-granite/granite-embedding-30m-english, -107m-multilingual; fixtures -125m-english, -278m-multilingual.
    "granite-embedding-30m-english": (encoder("roberta", "RobertaModel", (6, 384, 50265)), ALL),
    "granite-embedding-107m-multilingual": (encoder("xlm-roberta", XLM, (6, 384, 250002)), ALL),
    "granite-embedding-125m-english": (
        encoder("roberta", "RobertaModel", (12, 768, 50265), torch_dtype="bfloat16"),
        ALL,
    ),
    "granite-embedding-278m-multilingual": (
        encoder("xlm-roberta", XLM, (12, 768, 250002), torch_dtype="bfloat16"),
        ALL,
    ),
    # fixtures intfloat/multilingual-e5-large; hub intfloat/multilingual-e5-large-instruct.
    "multilingual-e5-large": (encoder("xlm-roberta", XLM, (24, 1024, 250002), torch_dtype="float32"), NOT_Z),
    "multilingual-e5-large-instruct": (encoder("xlm-roberta", XLM, (24, 1024, 250002), torch_dtype="float16"), NOT_Z),
    # fixtures BAAI/bge-reranker-v2-m3, BAAI/bge-reranker-large, sentence-transformers/all-roberta-large-v1.
    "bge-reranker-v2-m3": (
        encoder("xlm-roberta", XLM_CLASSIFIER, (24, 1024, 250002), 8194, torch_dtype="float32"),
        NOT_Z,
    ),
    "bge-reranker-large": (
        encoder("xlm-roberta", XLM_CLASSIFIER, (24, 1024, 250002), torch_dtype="float32"),
        NOT_Z,
    ),
    "all-roberta-large-v1": (encoder("roberta", "RobertaForMaskedLM", (24, 1024, 50265)), NOT_Z),
}

# Models that share much with a known one and must not be taken for it.
LOOKALIKES: dict[str, Document] = {
    # card; the vocabulary is that of gguf granite4:micro, the same architecture.
    "granite-4.1-3b": granite(40, 2560, 40, 100352, 8192),
    "granite-4.1-3b-fp8": granite(40, 2560, 40, 100352, 8192) | FP8,
    # gguf granite4:1b-base.
    "granite-4.0-1b": hybrid(40, 2048, (16, 4), ATTENTION),
    # hub Sethblocks/Neuron-v0.3-3b, a fine-tuned granite-4.0-micro; KV heads of gguf granite4:micro.
    "granite-4.0-micro": hybrid(40, 2560, (40, 8), ATTENTION),
    # gguf granite4:350m-base.
    "granite-4.0-350m": hybrid(28, 1024, (16, 4), ATTENTION[:28], max_position_embeddings=32768),
    # gguf granite4:350m-h-base; 32768 positions by its model card.
    "granite-4.0-h-350m": hybrid(32, 768, (12, 4), MAMBA[:32], max_position_embeddings=32768),
    # hub ibm-granite/granite-4.0-h-1b; heads of gguf granite4:1b-h.
    "granite-4.0-h-1b": hybrid(40, 1536, (12, 4), MAMBA),
    # hub anuj6316/granite, a fine-tuned granite-4.0-h-micro.
    "granite-4.0-h-micro": hybrid(40, 2048, (32, 8), MAMBA),
    # gguf granite4:small-h: the 8B's sizes, with experts.
    "granite-4.0-h-small": hybrid(40, 4096, (32, 8), MAMBA, num_experts_per_tok=10, num_local_experts=72),
    # fixtures ibm-ai-platform/micro-g3.3-8b-instruct-1b, ibm-granite/granite4.
    "micro-g3.3-8b-instruct-1b": granite(4, 4096, 32, 49159, 12800),
    "granite4": {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid"},
    # hub ibm-granite/granite-3.1-8b-instruct.
    "granite-3.1-8b-instruct": granite(40, 4096, 32, 49155, 12800),
    # hub AI-Sweden-Models/Llama-3-8B-instruct, and one with more tokens, spacebetweenus/107gc3k.
    "llama-3-8b-instruct": LLAMA_8B | {"max_position_embeddings": 8192},
    "llama-3.1-8b-more-tokens": LLAMA_8B | {"vocab_size": 128258},
    # Made up: the text of Ministral 3 with another vision encoder, other sizes of text, fewer KV heads.
    "mistral3-8b-other-vision": mistral3("ministral3", 34, 4096, 262144, hidden_size=1280),
    "mistral3-14b-other-vision": mistral3("ministral3", 40, 5120, 262144, num_hidden_layers=48),
    "mistral3-2b": mistral3("ministral3", 24, 2048, 262144),
    "llama-3.1-8b-without-gqa": LLAMA_8B | {"num_key_value_heads": 32},
    "swa-20b-wider": granite(44, 5120, 40, 100352, 12800, model_type="granite_swa"),
    "granite-vision-other-heads": llava(LLAVA_TEXT | {"num_attention_heads": 16}),
    # hub roberta-base, a cross-encoder of that size, xlm-roberta-large, and one with a pruned vocabulary.
    "roberta-base": encoder("roberta", "RobertaForMaskedLM", (12, 768, 50265)),
    "roberta-base-classifier": encoder("roberta", "RobertaForSequenceClassification", (12, 768, 50265)),
    "xlm-roberta-large": encoder("xlm-roberta", "XLMRobertaForMaskedLM", (24, 1024, 250002)),
    "e5-large-pruned": encoder("xlm-roberta", XLM, (24, 1024, 37200)),
}
