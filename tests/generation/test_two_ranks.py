"""A decoder among ranks: what each has, what they give together, and what is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sendnn_pipeline.engines import group
from sendnn_pipeline.engines.sharding import sizes_of_rank
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.generation.model.attention import register_attention
from sendnn_pipeline.generation.model.decoder import ChunkLayer, Embed, Head
from sendnn_pipeline.models.loader import Part, load_causal_part
from sendnn_pipeline.models.shards import ShardedWeights, read_shard_plan
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32, Served

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
GRANITE = {"embedding_multiplier": 2.0, "residual_multiplier": 0.7, "logits_scaling": 3.0, "attention_multiplier": 0.2}
WITHOUT_EXPERTS = {
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "layer_types": ["attention"] * 2,
    "shared_intermediate_size": 48,
    "mamba_n_heads": 6,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES | {"num_key_value_heads": 3}, attention_bias=True)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES | GRANITE | {"num_key_value_heads": 3})),
    "granitemoehybrid": lambda: GraniteMoeHybridForCausalLM(
        GraniteMoeHybridConfig(**SIZES | GRANITE | WITHOUT_EXPERTS | {"num_key_value_heads": 3})
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
}


@pytest.mark.parametrize(("name", "size"), [("llama", 3), ("granite", 3), ("granitemoehybrid", 3), ("qwen2", 2)])
def test_the_parts_of_all_ranks_give_what_the_whole_model_does(name, size, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        # Biases and norms begin as nothing and as one.
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    tokens = torch.arange(1, 12)
    with torch.no_grad():
        wanted = model(tokens[None]).logits[0]
    monkeypatch.setattr(group, "sum_over_ranks", summed_in_threads(size))
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(lambda rank: logits_of_rank(tmp_path, rank, size, model.config, tokens), range(size)))
    for rank in range(size):
        assert torch.allclose(found[rank], wanted, atol=1e-4)


def summed_in_threads(size):
    """Return a sum over ranks that are threads."""
    parts, lock, meeting = [], threading.Lock(), threading.Barrier(size, timeout=30)

    def total(part):
        with lock:
            parts.append(part)
        meeting.wait()
        result = torch.stack(parts[-size:]).sum(0)
        meeting.wait()
        return result

    return total


LOADING = threading.Lock()


def logits_of_rank(folder: Path, rank: int, size: int, config, tokens):
    """Return logits of a prompt by a rank's part of the model, with a cache of its own heads."""
    plan, files = read_shard_plan(folder), dict.fromkeys(folder.glob("*.safetensors"), "")
    weights = ShardedWeights(files, "float32", plan, rank, size)
    head = config.hidden_size // config.num_attention_heads
    sizes = sizes_of_rank(config.to_dict(), size, head)
    with LOADING:
        model = load_causal_part(folder, "float32", register_attention(), Part(sizes, weights))
    # Of what is divided, a rank has its share, and no more.
    layer = model.model.layers[0]
    down = layer.mlp.down_proj if hasattr(layer, "mlp") else layer.shared_mlp.output_linear
    neurons = sizes.get("shared_intermediate_size", sizes["intermediate_size"])
    assert down.weight.shape == (config.hidden_size, neurons)
    assert model.model.layers[0].self_attn.k_proj.weight.shape[0] == head * sizes["num_key_value_heads"]
    group.sum_parts(model, plan)
    positions = torch.arange(len(tokens))
    with torch.no_grad():
        (hidden,) = Embed(model)(tokens, positions)
        for layer in range(config.num_hidden_layers):
            keys = torch.zeros(2, sizes["num_key_value_heads"], head, 64)
            values = torch.zeros(2, sizes["num_key_value_heads"], 64, head)
            inputs = (positions, positions + 64, positions * 0, positions, positions[None], torch.ones(1, 1).long())
            (hidden,) = ChunkLayer(model, layer)(hidden, *inputs, keys, values)
        return Head(model)(hidden)[0]


def test_a_rank_reads_its_part_and_no_more(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZES | {"num_key_value_heads": 3})).save_pretrained(tmp_path)
    file, plan = tmp_path / "model.safetensors", read_shard_plan(tmp_path)
    whole = load_file(file)
    parts = [ShardedWeights({file: ""}, "float32", plan, rank, 3) for rank in range(3)]
    for name, tensor in whole.items():
        axis, found = plan.axis(name), [part[name] for part in parts]
        if axis is None:
            assert all(torch.equal(one, tensor) for one in found)
        else:
            assert torch.equal(torch.cat(found, axis), tensor)
            assert all(one.nbytes == tensor.nbytes // 3 for one in found)
            # Rows stay mapped from the file, and of columns there is a copy without the others.
            stored = tensor.nbytes if axis == 0 else tensor.nbytes // 3
            assert all(one.untyped_storage().nbytes() == stored for one in found)
    divided = {name for name in whole if plan.axis(name) is not None}
    assert divided == {name for name in whole if "_proj" in name}


def test_a_number_of_ranks_that_does_not_divide_is_refused_with_the_numbers(llama):
    words = [*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=3"]
    with pytest.raises(ConfigError) as caught:
        resolved_run(words)
    assert str(caught.value).startswith(
        "parallel.tensor_parallel=3 does not divide the model's num_attention_heads=4 and num_key_value_heads=2 and "
        "intermediate_size=64"
    )
    assert "use 1, 2" in str(caught.value)


def test_what_runs_in_one_process_says_so(tiny):
    words = ["model=local", "model.dtype=float32", "backend=inductor", "backend.freezing=true", f"model.path={tiny}"]
    with pytest.raises(ConfigError, match=r"tensor_parallel=2, and engine=pooling on backend=inductor runs in one"):
        resolved_run([*words, "parallel.tensor_parallel=2"])


def test_a_model_without_a_plan_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="transformers has no plan to divide the layers of gpt2 among ranks"):
        read_shard_plan(tmp_path)


def test_two_ranks_answer_as_the_model_does(llama, llama_reference, artifacts):
    """Through processes, gloo and HTTP, several at once, greedily; compiled, the sums are part of the graphs."""
    words = (*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=2", "scheduler.max_num_seqs=4")
    words = (*words, "backend=inductor", artifacts)
    prompts = [llama_reference.tokenizer(text).input_ids for text in ("the assert statement", "if", "a or b " * 40)]
    with Served(*words, "parallel.max_load_processes=1", "warmup.remeasure=false", seconds=300) as served:
        body = {"prompt": prompts, "max_tokens": 20, "temperature": 0}
        answer = served.session.post(f"{served.url}/v1/completions", json=body).json()
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        for prompt, choice in zip(prompts, choices, strict=True):
            wanted = llama_reference.greedy(prompt, 20)
            assert llama_reference.tokenizer.decode(wanted, skip_special_tokens=True) == choice["text"]
        served.terminate()
        assert served.exit_code() == 0
