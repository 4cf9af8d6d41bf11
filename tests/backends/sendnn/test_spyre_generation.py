"""Generating on the emulated card: the same texts as without it, every rule kept, and each broken one seen."""

import math
from contextlib import nullcontext

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sendnn_pipeline import Generator
from sendnn_pipeline.backends.sendnn import backend as sendnn_backend
from sendnn_pipeline.backends.sendnn import program
from sendnn_pipeline.backends.sendnn.backend import DECODER
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import ConfigError, PipelineError
from sendnn_pipeline.generation.device.decoder import WholeDecoder, register_attention
from sendnn_pipeline.generation.device.resolve import compiled_blocks, required_blocks, volume_limit
from sendnn_pipeline.generation.device.runner import DeviceRunner
from sendnn_pipeline.generation.messages import GenerationOutput, GenerationRequest, Sampling
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.messages import Drain, Part, Request, RequestFailed
from sendnn_pipeline.models.loader import load_causal
from sendnn_pipeline.pipeline.rank import run_rank
from tests.generation.decoders import KNOWN, make_decoder
from tests.served import EAGER_FLOAT32

SIZES = ("scheduler.chunk_size=128", "scheduler.max_num_seqs=4")
GREEDY = Sampling(temperature=0.0)


class Port:
    """Sends all requests at once, then drains."""

    def __init__(self, prompts, sampling=GREEDY, max_tokens=12):
        self.sent, self.prompts, self.sampling, self.max_tokens = [], list(prompts), sampling, max_tokens

    def send(self, message):
        self.sent.append(message)

    def receive(self, timeout_seconds, wake):
        requests = [
            Request(index, math.inf, msgspec.Raw(msgspec.msgpack.encode(self.request(prompt))))
            for index, prompt in enumerate(self.prompts)
        ]
        self.prompts = []
        return [*requests, Drain()]

    def request(self, prompt):
        return GenerationRequest([prompt], [self.max_tokens], self.sampling)

    def tokens(self):
        found = {}
        for message in self.sent:
            if isinstance(message, Part):
                output = msgspec.msgpack.decode(message.payload, type=GenerationOutput)
                found.setdefault(message.request_id, []).extend(output.token_ids)
        return found

    def failures(self):
        return [message for message in self.sent if isinstance(message, RequestFailed)]


def generate(card, port, llama, *words, **variables):
    resolved = card.resolve(f"model.path={llama}", *SIZES, *words, **variables)
    run_rank(port, resolved.run, World())
    return port


def prompts_of(*lengths):
    numbers = np.random.default_rng(0)
    return [numbers.integers(4, 500, length).tolist() for length in lengths]


def greedy(llama, prompt, most=12):
    """Return what transformers generates in float32, with the margin of each choice."""
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    ids, margins = list(prompt), []
    with torch.no_grad():
        for _ in range(most):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
    return ids[len(prompt) :], margins


def test_tokens_are_transformers_own_whatever_runs_beside_them(llama, card):
    prompts = prompts_of(1, 63, 64, 65, 127, 128, 129, 200)
    port = generate(card, Port(prompts), llama)
    assert not port.failures()
    for index, found in port.tokens().items():
        wanted, margins = greedy(llama, prompts[index])
        # Up to the first choice that float16 may make otherwise.
        sure = next((place for place, margin in enumerate(margins) if margin < 0.02), len(margins))
        assert found[:sure] == wanted[:sure] and len(found) == len(wanted)
    device = card.device
    assert device.dynamic and len(device.deployed) == 2 and device.compiled == 1 and device.kv.blocks == 20
    captured = device.environment.captured
    assert captured["COMPILATION_MODE"] == "offline_decoder" and captured["VLLM_DT_CHUNK_LEN"] == "128"
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == "256" and captured["VLLM_DT_MAX_BATCH_SIZE"] == "4"
    assert captured["VLLM_DT_MAX_BATCH_TKV_LIMIT"] == "1024"


def test_a_shared_beginning_and_a_limited_volume_change_no_token(llama, card):
    beginning, (first, second) = prompts_of(128)[0], prompts_of(20, 40)
    prompts = [beginning + first, beginning + second, beginning + first, first]
    port = generate(card, Port(prompts), llama, VLLM_DT_MAX_BATCH_TKV_LIMIT="512")
    assert not port.failures() and card.device.environment.captured["VLLM_DT_MAX_BATCH_TKV_LIMIT"] == "512"
    tokens = port.tokens()
    assert tokens[0] == tokens[2] and len(tokens) == 4
    for index in (0, 1, 3):
        wanted, margins = greedy(llama, prompts[index])
        sure = next((place for place, margin in enumerate(margins) if margin < 0.02), len(margins))
        assert tokens[index][:sure] == wanted[:sure]


def test_texts_come_out_of_the_python_door(llama, card):
    words = ("model=local", f"model.path={llama}", f"cache_dir={card.cache_dir}")
    texts = ["assert the", "if the condition " * 20]
    with Generator(*EAGER_FLOAT32, f"model.path={llama}") as eager:
        wanted = eager.generate(texts, max_tokens=5, temperature=0)
    with Generator(*words, "backend=sendnn", *SIZES) as spyre:
        assert spyre.generate(texts, max_tokens=5, temperature=0) == wanted


@pytest.mark.parametrize("name", ["Llama", "Granite", "Qwen3"])
def test_a_whole_decoder_over_a_paged_cache_gives_the_model_s_own_logits(name, tmp_path):
    """Attention as custom ops, padded on the left and in a rectangle; in float32, so that only sums' order differs."""
    folder = make_decoder(tmp_path, name, KNOWN[name])
    causal = load_causal(folder, "float32", register_attention())
    ids, lengths = torch.randint(3, 128, (2, 200), generator=torch.Generator().manual_seed(1)), (150, 70)
    heads, size = causal.config.num_key_value_heads, getattr(causal.config, "head_dim", None) or 8
    caches = [torch.zeros(12, BLOCK_SIZE, heads, size) for _ in range(2 * causal.config.num_hidden_layers)]
    prefill, decode = WholeDecoder(causal, 64), WholeDecoder(causal, 1)
    tables, chunk = ([3, 7, 2], [5, 9]), 128
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        wanted = [plain(row[None]).logits[0] for row in ids]
        for row, length in enumerate(lengths):
            padding = -(-(-length // BLOCK_SIZE) * BLOCK_SIZE) % chunk
            for start in range(0, padding + length, chunk):
                rows = torch.arange(start, start + chunk) - padding
                real = (rows >= 0) & (rows < length)
                blocks = ([0] * (padding // BLOCK_SIZE) + tables[row])[: (start + chunk) // BLOCK_SIZE]
                slots = torch.tensor(blocks)[torch.arange(start, start + chunk) // BLOCK_SIZE] * BLOCK_SIZE
                slots += torch.arange(start, start + chunk) % BLOCK_SIZE
                positions = torch.where(real, rows, 0)
                tokens = torch.where(real, ids[row][positions], 0)
                inputs = (tokens, positions, slots, torch.tensor(blocks))
                sizes = (torch.tensor([start + chunk]), torch.tensor([padding]))
                logits, *caches = prefill(*(tensor[None] for tensor in inputs), *sizes, *caches)
            last = 64 - (start + chunk - padding - length) - 1
            torch.testing.assert_close(logits[0, last], wanted[row][length - 1], atol=2e-5, rtol=1e-4)
        padding, positions = torch.tensor([0, BLOCK_SIZE]), torch.tensor(lengths)
        for step in range(3):
            places = positions + step
            slots = [table[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE
                     for table, place in zip(tables, places.tolist(), strict=True)]  # fmt: skip
            table = torch.tensor([tables[0], [0, *tables[1]]])
            tokens = ids[torch.arange(2), places][:, None]
            sizes = (places + padding + 1, padding)
            logits, *caches = decode(tokens, places[:, None], torch.tensor(slots)[:, None], table, *sizes, *caches)
            for row in range(2):
                torch.testing.assert_close(logits[row, 0], wanted[row][places[row]], atol=2e-5, rtol=1e-4)


def test_logits_are_float32_within_the_graph_whatever_the_weights(llama):
    causal = load_causal(llama, "float16", register_attention())
    heads, size = causal.config.num_key_value_heads, causal.config.hidden_size // causal.config.num_attention_heads
    caches = [torch.zeros(2, BLOCK_SIZE, heads, size).half() for _ in range(2 * causal.config.num_hidden_layers)]
    one = torch.ones(1, 1, dtype=torch.int64)
    exported = torch.export.export(WholeDecoder(causal, 1), (one, one - 1, one * 64, one, one[0], one[0] - 1, *caches))
    logits, *written = exported.graph_module.graph.output_node().args[0]
    assert logits.meta["val"].dtype == torch.float32
    assert {cache.meta["val"].dtype for cache in written} == {torch.float16}


def not_rebound(self, function, inputs, *, counts):
    with torch.no_grad():
        return self.calls[function](*inputs, *self.caches)[0]


def more_blocks(self):
    from sendnn_pipeline.generation.device.runner import make_device_caches

    caches = make_device_caches(self.plan, self.dtype)
    self.caches = [torch.zeros(24, *cache.shape[1:], dtype=cache.dtype) for cache in caches] if self.seen else caches
    self.seen = True


def unmarked(graph, inputs):
    return None


def marked_as_static(graph, inputs):
    for tensor in inputs[:6]:
        for axis in range(tensor.dim()):
            torch._dynamo.mark_static(tensor, axis)


DeviceRunner.seen = False
BROKEN = {
    "caches that are not rebound": ((DeviceRunner, "_run"), not_rebound, "a KV tensor of an earlier call"),
    "no marks": ((program, "mark"), unmarked, "not marked"),
    "all static": ((program, "mark"), marked_as_static, "not marked dynamic"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_of_decoders_ends_the_run(rule, llama, card, monkeypatch):
    (owner, name), replacement, says = BROKEN[rule]
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(Exception, match=says):
        generate(card, Port(prompts_of(5)), llama)


def test_another_number_of_blocks_is_not_what_was_compiled(llama, card, monkeypatch):
    monkeypatch.setattr(DeviceRunner, "reset", more_blocks)
    monkeypatch.setattr(DeviceRunner, "seen", False)
    (failed,) = generate(card, Port(prompts_of(5)), llama).failures()
    assert "recompile" in failed.detail and card.device.kv.blocks == 20


def test_sizes_of_one_are_compiled_as_any_and_only_then(llama, card, monkeypatch):
    monkeypatch.setattr(sendnn_backend, "tracing_settings", lambda _environ, *, dynamic: nullcontext())
    with pytest.raises(Exception, match="backed_size_oblivious is for warmup"):
        generate(card, Port(prompts_of(5)), llama)


def test_what_the_device_cannot_say_is_refused(llama, card):
    asked = Sampling(temperature=0.0, prompt_logprobs=1)
    (failed,) = generate(card, Port(prompts_of(5), asked), llama).failures()
    assert failed.reason == "refused" and "log probabilities of a prompt" in failed.message


@pytest.mark.parametrize(
    ("seqs", "length", "tkv", "wanted", "blocks", "needed"),
    [
        (2, 128, 256, None, 6, 5), (4, 512, 2048, None, 36, 33), (16, 3072, 49152, None, 784, 769),
        (4, 8192, 32768, None, 516, 513), (32, 32768, 131072, None, 16416, 2049),
        (32, 32768, 131072, 8192, 8192, 2049), (32, 32768, 131072, 2080, 2080, 2049), (1, 64, 64, None, 2, 2),
        (32, 32768, 131072, 2049, 2048, 2049),
    ],
)  # fmt: skip
def test_blocks_are_a_multiple_of_the_sequences(seqs, length, tkv, wanted, blocks, needed):  # noqa: PLR0917
    assert volume_limit(DECODER, seqs, length) == min(131072, tkv)
    assert compiled_blocks(seqs, length, wanted) == blocks
    assert required_blocks(seqs, length, tkv) == needed


def test_sizes_that_do_not_fit_are_one_line_before_anything_is_compiled(llama, tmp_path, card):
    for words, says in (
        (("scheduler.chunk_size=100",), "scheduler.chunk_size=100 is not a multiple of 64"),
        (("model.max_model_len=100",), "model.max_model_len=100 is not a multiple of 64"),
        (("model.max_model_len=512",), "more than the model's 256 positions"),
        (("scheduler.max_num_seqs=33",), "scheduler.max_num_seqs=33 is more than the 32 that the device takes"),
        (("scheduler.max_num_batched_tokens=512",), "a step of the device is one chunk of 256 tokens"),
        (("cache.num_blocks=9", "scheduler.max_num_seqs=4"), "cache.num_blocks=9 gives 8 blocks, .* and 17 are needed"),
        (("backend.max_batch_tkv=128",), "model.max_model_len=256 is more than the 128 tokens that a decode takes"),
        (
            ("backend.card_memory_gib=0.001", "scheduler.max_num_seqs=32"),
            "KV cache 0.01 GiB; beside the weights, not even 64|sequences of up to",
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            card.resolve(f"model.path={llama}", *words)
    other = make_decoder(tmp_path, "Olmo2", KNOWN["Olmo2"])
    with pytest.raises(PipelineError, match="models of the type olmo2 are not known to run on Spyre, and those of lla"):
        card.resolve(f"model.path={other}")
    plan = card.resolve(f"model.path={llama}", "cache.num_blocks=170").run.plan
    assert plan.rules.num_blocks == 160 and plan.rules.max_num_seqs == 32 and plan.rules.chunk_size == 256
    assert plan.rules.max_batch_tkv == 8192
