"""Every known configuration: planned as published, then traced, deployed and served with tiny weights of its kind."""

import json
from pathlib import Path

import pytest
import yaml

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.device.resolve import compiled_blocks
from sendnn_pipeline.known.entry import read_known
from sendnn_pipeline.messages import Part
from sendnn_pipeline.pipeline.rank import run_rank
from tests.backends.sendnn.test_spyre_generation import Port
from tests.classifiers import _tokenizer
from tests.conftest import clean_environ
from tests.generation.decoders import make_decoder
from tests.known.models import MODELS
from tests.served import ROOT

ENTRIES = {entry.name: entry for entry in read_known(ROOT / "conf" / "known")}
GENERATING = [name for name, entry in ENTRIES.items() if "scheduler.max_num_seqs" in entry.runtimes[0].values]
# What stands for the decoder of each: text alone, in half precision, with full attention, whatever it has beside.
DECODERS = {
    "granite": "Granite",
    "granite_swa": "Granite",
    "llama": "Llama",
    "granitemoehybrid": "GraniteMoeHybrid",
    "llava_next": "Granite",
    "mistral3": "Mistral",
}
POOLING = [name for name, entry in ENTRIES.items() if "warmup.shapes" in entry.runtimes[0].values]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """A tokenizer of each family, trained once."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in ("roberta", "xlm-roberta"):
        _tokenizer(kind).save(str(folder / f"{kind}.json"))
    return folder


def make_small(document: dict, folder: Path, tokenizers: Path) -> Path:
    """Write a model with the document's architecture and positions, and next to no weights."""
    import torch
    import transformers

    kind = document["model_type"]
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=600, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=document["max_position_embeddings"], pad_token_id=1, type_vocab_size=1, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    architecture = document["architectures"][0].replace("ForMaskedLM", "Model")
    getattr(transformers, architecture)(config).half().save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tokenizers / f"{kind}.json").read_bytes())
    return folder


def words_of(name: str, folder: Path, model: Path) -> list[str]:
    """Return the words of a run of a small model for which the entry's first runtime is known, on one card."""
    entry = yaml.safe_load((ROOT / "conf" / "known" / f"{name}.yaml").read_text())
    config = json.loads((model / "config.json").read_text())
    match, runtimes = {"model_type": config["model_type"]}, [{**entry["runtimes"][0], "tp_size": 1}]
    file = folder / "known.json"
    small = {"name": f"small-{name}", "aliases": [], "match": match, "platforms": [], "runtimes": runtimes}
    file.write_text(json.dumps({**entry, **small}))
    return [f"model.path={model}", f"known.file={file}", "known.require=true"]


def test_all_are_tried():
    configs, problems = load_context(clean_environ()).collect_known(None, "", "sendnn")
    assert not problems and {config.name for config in configs} == ENTRIES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", POOLING)
def test_a_pooling_model_is_planned_traced_deployed_and_served(name, tmp_path, tokenizers, card):
    model = tmp_path / "model"
    model.mkdir()
    words = words_of(name, tmp_path, make_small(MODELS[name][0], model, tokenizers))
    port = card.run(*words, requests=[[0, 5, 6, 2]])
    (part,) = port.of(Part)
    length, _, batch = ENTRIES[name].runtimes[0].values["warmup.shapes"][0].partition("x")
    assert part.program == f"pool[batch={batch},len={length}]"
    captured = card.device.environment.captured
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == length
    assert captured["VLLM_DT_MAX_BATCH_SIZE"] == str(max(2, int(batch)))
    assert captured["COMPILATION_MODE"] == "offline"


def make_small_decoder(document: dict, folder: Path) -> Path:
    """Write a decoder of the document's architecture and positions, and next to no weights."""
    name = DECODERS[document["model_type"]]
    sizes = {
        "vocab_size": 128, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 131072,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    more = {
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "layer_types": ["attention"],
        "shared_intermediate_size": 16,
        "mamba_n_heads": 2,
    }
    windows = {"sliding_window": None} if name == "Mistral" else {}
    make_decoder(folder, name, sizes | windows | (more if name == "GraniteMoeHybrid" else {}))
    file = folder / "config.json"
    # Of Mamba alone, and written in a form that transformers does not read.
    config = {key: value for key, value in json.loads(file.read_text()).items() if key != "time_step_limit"}
    file.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", GENERATING)
def test_a_decoder_is_planned_traced_deployed_and_served(name, tmp_path, card):
    model = tmp_path / "model"
    model.mkdir()
    words = words_of(name, tmp_path, make_small_decoder(MODELS[name][0], model))
    port = Port([[5, 6, 7]], max_tokens=2)
    run_rank(port, card.resolve(*words, "backend.any_architecture=true").run, World())
    assert not port.failures() and len(port.tokens()[0]) == 2
    values, captured = ENTRIES[name].runtimes[0].values, card.device.environment.captured
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == str(values["model.max_model_len"])
    assert captured["VLLM_DT_MAX_BATCH_SIZE"] == str(values["scheduler.max_num_seqs"])
    assert captured.items() >= values.get("backend.environment", {}).items() and captured["VLLM_DT_CHUNK_LEN"] == "512"
    sizes = values["scheduler.max_num_seqs"], values["model.max_model_len"]
    assert card.device.kv.blocks == compiled_blocks(*sizes, values.get("cache.num_blocks"))
