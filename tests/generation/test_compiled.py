"""Compiled layers, bound to the weights of each."""

import json

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM

from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.kv_cache import make_caches
from sendnn_pipeline.generation.layers import LayerWeights
from sendnn_pipeline.models.gguf import convert
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.programs.store import store_at
from tests.bare_machine import run_there
from tests.conftest import resolved_run
from tests.generation.cores import Core
from tests.generation.decoders import KNOWN, make_decoder
from tests.gguf_models import tiny_llama, write_gguf

pytestmark = pytest.mark.slow
SMALL = ("model=local", "backend=inductor", "scheduler.max_num_seqs=4", "scheduler.chunk_size=64")
QUANTIZED = {"o_proj": Kind.Q4_1, "up_proj": Kind.Q4_1, "down_proj": Kind.Q4_1}
PROMPTS = [[5, 6, 7], list(range(3, 100)), [9] * 64]


def test_text_is_transformers_and_artifacts_need_no_model(tmp_path, monkeypatch):
    folder = make_decoder(tmp_path / "model", "Llama", KNOWN["Llama"], scale=4.0)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    resolved = resolved_run([*SMALL, f"model.path={folder}", "model.dtype=float32"])
    first = Core(resolved)
    saved = {}
    for program, made in first.compiled.items():
        saved[program] = tmp_path / program.function
        saved[program].mkdir()
        made.save(saved[program])
    monkeypatch.setattr("sendnn_pipeline.generation.text_model.load_causal", None)
    second = Core(resolved, saved)
    for core in (first, second):
        for request_id, prompt in enumerate(PROMPTS):
            core.ask(request_id, [prompt])
        core.drain()
        for request_id, prompt in enumerate(PROMPTS):
            with torch.no_grad():
                wanted = reference.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
            assert core.tokens(request_id) == wanted[0, len(prompt) :].tolist()
    continued_by_nobody(resolved, first, tmp_path)


ANYWHERE = """
import json, os, sys
from sendnn_pipeline import Generator

with Generator(*sys.argv[1:]) as generator:
    texts = generator.generate([[5, 6, 7]], max_tokens=4, temperature=0)
print(json.dumps([os.getuid(), "torch._dynamo" in sys.modules, len(texts)]))
"""


def continued_by_nobody(resolved, core, tmp_path):
    """Have them in a store, and a user without a name generate from it on a read-only machine without a compiler."""
    store = store_at(resolved.run.config.artifacts, tmp_path / "cache")
    keys = program_cache(resolved.run, resolved.backend, store, World()).keys
    for program, made in core.compiled.items():
        store.publish(keys.key(program.name), made.save)
    (tmp_path / "tmp").mkdir()
    words = (f"model.path={tmp_path / 'model'}", "model.dtype=float32", f"cache_dir={tmp_path / 'cache'}")
    ended = run_there(ANYWHERE, (*SMALL, *words, "artifacts.require=true"), tmp_path / "tmp")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [54321, False, 1]


def test_products_in_bfloat16(tmp_path):
    """Of several rows over weights in a layout of their own, where the CPU computes it, and of one written out.

    Those of one row read what a quantized file has of the weights, where it has them in a layout that is known.
    """
    folder = tmp_path / "model"
    write_gguf(tmp_path / "model.gguf", tiny_llama(), kinds={"k_proj": Kind.F16, "v_proj": Kind.Q4_0, **QUANTIZED})
    convert(tmp_path / "model.gguf", folder)
    resolved = resolved_run([*SMALL, f"model.path={folder}", "model.dtype=bfloat16"])
    core = resolved.engine.open(resolved.run, World())
    hidden = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    for program in {resolved.run.plan.logits, resolved.run.plan.logits_one}:
        graph, most = core.graph(program), program.dims[0].max
        made = resolved.backend.compile(graph)
        for rows in {1, most}:
            with torch.no_grad():
                logits, greedy, finite = made.bind(core.weights)(hidden[:rows])
                wanted, _, _ = graph.function(hidden[:rows])
            torch.testing.assert_close(logits, wanted, atol=2**-7 * float(wanted.abs().max()), rtol=0)
            assert greedy.tolist() == logits.argmax(-1).tolist() and finite.all()
        assert bool(made.constants.packed) == (most > 1 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        parts = {name for name in made.constants.names.values() if "embed_tokens" in name}
        embedding = "model.embed_tokens.weight"
        assert parts == ({embedding} if most > 1 else {f"{embedding}.q8", f"{embedding}.scales"})
    graph = core.graph(resolved.run.plan.decode_one(""))
    made = resolved.backend.compile(graph)
    read = {name.split(".")[-3] for name in made.constants.names.values() if name.endswith(".q4")}
    assert read == {"v_proj", *QUANTIZED}
    call, caches = made.bind(LayerWeights(core.weights, 0)), make_caches(resolved.run)[0]
    numbers = [[70], [7 * 64 + 6], [3, 7], [0, 0], [0, 64], [0]]
    inputs = hidden[:1], *map(torch.tensor, numbers)
    before = [torch.randn(cache.shape, generator=torch.Generator().manual_seed(1)).bfloat16() for cache in caches]
    mine, theirs = ([one.clone() for one in before] for _ in range(2))
    with torch.no_grad():
        (found,), (wanted,) = call(*inputs, *mine), graph.function(*inputs, *theirs)
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
    for one, other, old in zip(mine, theirs, before, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)
        assert (one != old).sum() == (other != old).sum() > 0


def test_one_request_at_a_time_is_no_range_to_the_compiler(tmp_path):
    folder = make_decoder(tmp_path / "model", "Llama", KNOWN["Llama"])
    words = ("scheduler.max_num_seqs=1", "model.max_model_len=64", "model.dtype=float32")
    resolved = resolved_run([*SMALL, f"model.path={folder}", *words])
    core = resolved.engine.open(resolved.run, World())
    for program in resolved.run.plan.programs:
        export_graph(core.graph(program))
