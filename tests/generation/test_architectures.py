"""Decoders of transformers, computed layer by layer over a paged cache, against their own logits."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.kv_cache import make_caches
from sendnn_pipeline.generation.layers import check_layers, find_kinds
from sendnn_pipeline.generation.model.attention import register_attention
from sendnn_pipeline.generation.model.decoder import ChunkLayer, Embed, Head, TokenLayer
from sendnn_pipeline.generation.model.residual import keep_residual
from sendnn_pipeline.generation.model.stubs import layers_of
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.models.loader import load_causal
from sendnn_pipeline.models.parameters import checkpoint_names
from sendnn_pipeline.models.weights import CheckpointWeights
from tests.conftest import resolved_run
from tests.generation.decoders import KNOWN, REFUSED, SIZES, make_decoder
from tests.served import EAGER_FLOAT32

TABLE = torch.tensor([3, 7])
IDS = torch.randint(3, 128, (100,), generator=torch.Generator().manual_seed(1))


def slots(start, end):
    return torch.tensor(
        [int(TABLE[token // BLOCK_SIZE]) * BLOCK_SIZE + token % BLOCK_SIZE for token in range(start, end)]
    )


@pytest.mark.parametrize("name", KNOWN)
def test_logits_of_chunks_and_of_single_tokens_are_the_model_s(name, tmp_path):
    folder = make_decoder(tmp_path, name, KNOWN[name])
    run = resolved_run([*EAGER_FLOAT32, f"model.path={folder}", "scheduler.max_num_seqs=2"]).run
    causal, caches = load_causal(folder, "float32", register_attention()), make_caches(run)
    check_layers(causal, folder, caches[0])
    parameters = {f"causal.{k}": v for k, v in names_of(causal, run).items()}
    kinds = find_kinds(causal, generation_plan(run).layer_kinds, parameters, folder)
    assert len(kinds) == (2 if name == "Gemma3Text" else 1)
    head, got = Head(causal), []
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS[None]).logits[0]
        for start, end in ((0, 40), (40, 90)):
            # Behind another prompt, of 20 tokens in block 5.
            size, blocks = end - start, -(-end // BLOCK_SIZE)
            positions = torch.cat([torch.arange(20), torch.arange(start, end)])
            of_token = (
                torch.tensor([0, 1]).repeat_interleave(torch.tensor([20, size])),
                torch.cat([torch.arange(20), torch.arange(size)]),
            )
            queries = torch.stack([torch.arange(size).clamp(max=19), 20 + torch.arange(size)])
            tables = torch.stack([torch.tensor([5, 0])[:blocks], TABLE[:blocks]])
            inputs = (
                positions,
                torch.cat([5 * BLOCK_SIZE + torch.arange(20), slots(start, end)]),
                *of_token,
                queries,
                tables,
            )
            (hidden,) = Embed(causal)(torch.cat([IDS[7:27], IDS[start:end]]), positions)
            for layer, cache in enumerate(caches):
                (hidden,) = ChunkLayer(causal, layer)(hidden, *inputs, *cache)
            got.append(head(hidden)[0][20:])
        for token in range(90, 100):
            # By itself, or beside another text, which begins.
            rows = 1 + token % 2
            positions, places = torch.tensor([token, 0]), torch.cat([slots(token, token + 1), torch.tensor([64])])
            numbers = [[3, 7, 1], [0, 0, 1], [0, 64, 0]]
            blocks = *(torch.tensor(of_block[: 1 + rows]) for of_block in numbers), torch.tensor([0, 2][:rows])
            positions, places = positions[:rows], places[:rows]
            (hidden,) = Embed(causal)(IDS[[token, 5]][:rows], positions)
            for layer, cache in enumerate(caches):
                (hidden,) = TokenLayer(causal, layer)(hidden, positions, places, *blocks, *cache)
            logits, greedy, finite = head(hidden)
            assert greedy.tolist() == logits.argmax(-1).tolist() and all(finite)
            got.append(logits[:1])
    torch.testing.assert_close(torch.cat(got), wanted, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", KNOWN)
def test_bfloat16_is_nearer_to_float32_than_the_model_s(name, tmp_path):
    folder = make_decoder(tmp_path, name, KNOWN[name])
    run = resolved_run(["backend=eager", "model.dtype=bfloat16", f"model.path={folder}"]).run
    causal, caches = load_causal(folder, "bfloat16", register_attention()), make_caches(run)
    keep_residual(causal)
    check_layers(causal, folder, caches[0])
    positions = torch.arange(100)
    inputs = (positions, slots(0, 100), positions * 0, positions, positions[None], TABLE[None])
    with torch.no_grad():
        exact, rounded = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)(IDS[None]).logits[0].float()
            for dtype in (torch.float32, torch.bfloat16)
        )
        (hidden,) = Embed(causal)(IDS, positions)
        for layer, cache in enumerate(caches):
            (hidden,) = ChunkLayer(causal, layer)(hidden, *inputs, *cache)
            assert hidden.dtype == torch.float32
        (logits, *_) = Head(causal)(hidden)
    # Rounded between layers, too, it would be as far away.
    assert (logits - exact).square().mean() < 0.95 * (rounded - exact).square().mean()


def names_of(causal, run):
    return checkpoint_names(causal.state_dict(), CheckpointWeights(run.model.weight_files, "float32"))


SAYS = {
    "GptOss": "cannot be generated with here: attention with s_aux",
    "Gemma2": "cannot be generated with here: attention with softcap",
    "Falcon": "transformers hands out no attention of falcon: it has its own",
    "StableLm": "cannot be generated with here: layers that do not hand keywords on to attention",
    "Bloom": "cannot be generated with here",
    "DeepseekV3": r"keys and values of other sizes than config.json says: \(4, 16, 8\), not \(2, 8, 8\)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_done_here_is_refused(name, tmp_path):
    folder = make_decoder(tmp_path, name, REFUSED[name])
    cache = torch.zeros(2, 2, 8, BLOCK_SIZE), torch.zeros(2, 2, BLOCK_SIZE, 8)
    with pytest.raises(ModelError, match=SAYS[name]):
        check_layers(load_causal(folder, "float32", register_attention()), folder, cache)


def test_weights_that_transformers_makes_of_others_are_refused(tmp_path):
    folder = make_decoder(tmp_path, "Mixtral", SIZES | {"num_local_experts": 2})
    run = resolved_run([*EAGER_FLOAT32, f"model.path={folder}"]).run
    causal = load_causal(folder, "float32", register_attention())
    parameters = {f"causal.{k}": v for k, v in names_of(causal, run).items()}
    with pytest.raises(ModelError, match=r"of a layer is not as in the checkpoint.*those of experts"):
        find_kinds(causal, generation_plan(run).layer_kinds, parameters, folder)


def test_what_says_nothing_of_an_architecture_stays_what_it_is(tmp_path, monkeypatch):
    causal = load_causal(make_decoder(tmp_path, "Llama", KNOWN["Llama"]), "float32", register_attention())
    cache = torch.zeros(2, 2, 8, BLOCK_SIZE), torch.zeros(2, 2, BLOCK_SIZE, 8)

    def forward(*_):
        return torch.empty(2**50)

    monkeypatch.setattr(layers_of(causal)[1].mlp, "forward", forward)
    with pytest.raises(RuntimeError, match="alloc"):
        check_layers(causal, tmp_path, cache)


def test_layers_that_differ_in_more_than_weights_are_found(tmp_path):
    folder = make_decoder(tmp_path, "Llama", KNOWN["Llama"])
    causal = load_causal(folder, "float32", register_attention())
    layers_of(causal)[1].mlp.act_fn = torch.nn.Tanh()
    with pytest.raises(ModelError, match="layers 0 and 1 differ in more than weights"):
        find_kinds(causal, ("", ""), {}, folder)
