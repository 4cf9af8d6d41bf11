"""Every known configuration is planned as published, and traced, deployed and served at small sizes."""

import json
from pathlib import Path

import pytest
import yaml

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import BackendError, ConfigError
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


# Enough to trace and deploy: what the published sizes are told as is planned, which takes no card.
SMALL = {
    "warmup.shapes": {"warmup.shapes": ["64x2"]},
    "scheduler.max_num_seqs": {"model.max_model_len": 1024, "scheduler.max_num_seqs": 2},
}


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Return a small model of the kind of an entry; it is made once, whichever entries it stands for."""
    made = {}

    def model_of(name: str) -> Path:
        kind = kind_of(name)
        if kind not in made:
            folder = made[kind] = tmp_path_factory.mktemp("-".join(map(str, kind)))
            make_small_decoder(kind[0], folder) if name in GENERATING else make_small(*kind, folder)
        return made[kind]

    return model_of


def kind_of(name: str) -> tuple:
    """Return what a small model is made of: two entries of one kind are the same to it."""
    document = MODELS[name][0]
    if name in GENERATING:
        return (DECODERS[document["model_type"]],)
    architecture = document["architectures"][0].replace("ForMaskedLM", "Model")
    return document["model_type"], architecture, document["max_position_embeddings"]


def one_of_each_kind(names: list[str]) -> list[str]:
    """Return the first name of each kind, whatever its positions."""
    return list({kind_of(name)[:2]: name for name in reversed(names)}.values())


def all_and_of_each_kind_one_quickly(names: list[str]) -> list:
    """Return all names, of which those are slow that stand for nothing that another one does not."""
    first = one_of_each_kind(names)
    return [name if name in first else pytest.param(name, marks=pytest.mark.slow) for name in names]


def make_small(kind: str, architecture: str, positions: int, folder: Path) -> None:
    """Write a model of the architecture and positions, and next to no weights."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(
        kind, vocab_size=600, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=positions, pad_token_id=1, type_vocab_size=1, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    getattr(transformers, architecture)(config).half().save_pretrained(folder)
    _tokenizer(kind).save(str(folder / "tokenizer.json"))


def words_of(name: str, folder: Path, model: Path, values: dict | None = None) -> list[str]:
    """Return the words of a run of a small model for which one runtime is known, the entry's first unless told.

    Args:
        name: of the entry.
        folder: that takes a file of the known configuration.
        model: the small model.
        values: the runtime's, how many cards among them.
    """
    entry = yaml.safe_load((ROOT / "conf" / "known" / f"{name}.yaml").read_text())
    config = json.loads((model / "config.json").read_text())
    runtime = values or entry["runtimes"][0] | {"tp_size": 1}
    match, cards = {"model_type": config["model_type"]}, runtime.get("tp_size", 1)
    file = folder / "known.json"
    small = {"name": f"small-{name}", "aliases": [], "match": match, "platforms": [], "runtimes": [runtime]}
    file.write_text(json.dumps({**entry, **small}))
    return [f"model.path={model}", f"known.file={file}", "known.require=true", f"parallel.tensor_parallel={cards}"]


def test_all_are_tried():
    known = collect_known(load_context(clean_environ()), None, "", "sendnn")
    assert not known.problems and {config.name for config in known.configs} == ENTRIES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", POOLING)
def test_a_pooling_model_is_planned_as_published(name, tmp_path, model_of, card):
    run = card.resolve(*words_of(name, tmp_path, model_of(name))).run
    length, _, batch = ENTRIES[name].runtimes[0].values["warmup.shapes"][0].partition("x")
    assert [program.name for program in run.plan.programs] == [f"pool[batch={batch},len={length}]"]
    assert card.variables["VLLM_DT_MAX_CONTEXT_LEN"] == length
    assert card.variables["VLLM_DT_MAX_BATCH_SIZE"] == str(max(2, int(batch)))
    assert card.variables["COMPILATION_MODE"] == "offline"


@pytest.mark.parametrize("name", all_and_of_each_kind_one_quickly(POOLING))
def test_a_pooling_model_is_traced_deployed_and_served(name, tmp_path, model_of, card):
    port = card.run(*words_of(name, tmp_path, model_of(name), SMALL["warmup.shapes"]), requests=[[0, 5, 6, 2]])
    (part,) = port.of(Part)
    assert part.program == "pool[batch=2,len=64]"
    captured = card.device.environment.captured
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == "64" and captured["COMPILATION_MODE"] == "offline"


def make_small_decoder(name: str, folder: Path) -> None:
    """Write a decoder that takes as many positions as the published ones, and next to no weights."""
    sizes = {
        "vocab_size": 128, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 131072,
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


@pytest.mark.parametrize("name", GENERATING)
def test_a_decoder_is_planned_as_published(name, tmp_path, model_of, card):
    words = words_of(name, tmp_path, model_of(name))
    run = card.resolve(*words, "backend.any_architecture=true").run
    values, told = ENTRIES[name].runtimes[0].values, card.variables
    assert told["VLLM_DT_MAX_CONTEXT_LEN"] == str(values["model.max_model_len"])
    assert told["VLLM_DT_MAX_BATCH_SIZE"] == str(values["scheduler.max_num_seqs"])
    assert told.items() >= values.get("backend.environment", {}).items() and told["VLLM_DT_CHUNK_LEN"] == "512"
    sizes = values["scheduler.max_num_seqs"], values["model.max_model_len"]
    assert run.plan.rules.num_blocks == compiled_blocks(*sizes, values.get("cache.num_blocks"))


SEVERAL = [
    (name, index) for name in GENERATING for index, runtime in enumerate(ENTRIES[name].runtimes) if runtime.tp_size > 1
]


@pytest.mark.parametrize(("name", "index"), SEVERAL)
def test_a_decoder_of_several_cards_is_planned_as_published(name, index, tmp_path, model_of, card):
    runtime = ENTRIES[name].runtimes[index]
    values, cards = runtime.values, runtime.tp_size
    words = [*words_of(name, tmp_path, model_of(name), {**values, "tp_size": cards}), "backend.any_architecture=true"]
    plan = card.resolve(*words, AIU_WORLD_SIZE=str(cards)).run.plan
    told, sizes = card.variables, (values["scheduler.max_num_seqs"], values["model.max_model_len"])
    assert (told["VLLM_DT_MAX_BATCH_SIZE"], told["VLLM_DT_MAX_CONTEXT_LEN"]) == tuple(map(str, sizes))
    assert told.items() >= values.get("backend.environment", {}).items()
    assert plan.rules.num_blocks == compiled_blocks(*sizes, values.get("cache.num_blocks"))
    # Each card has the keys and values of a part of the heads: so many of 4, of 4 numbers, in half precision.
    token = 2 * (4 // cards) * 4 * 2
    assert plan.ranks == cards and plan.memory_bytes["KV cache"] == plan.rules.num_blocks * 64 * token
    with pytest.raises(ConfigError, match=f"known.require=true, and .* tp_size={cards}, and this run 1"):
        card.resolve(*words[:-2], words[-1])
    with pytest.raises(
        BackendError, match=f"{cards} ranks on this machine take a card each, and SPYRE_DEVICES=3 assigns 1"
    ):
        card.resolve(*words, SPYRE_DEVICES="3")


@pytest.mark.parametrize("name", all_and_of_each_kind_one_quickly(GENERATING))
def test_a_decoder_is_traced_deployed_and_served(name, tmp_path, model_of, card):
    words = words_of(name, tmp_path, model_of(name), SMALL["scheduler.max_num_seqs"])
    port = Port([[5, 6, 7]], max_tokens=2)
    run_rank(port, card.resolve(*words, "backend.any_architecture=true").run, World())
    assert not port.failures() and len(port.tokens()[0]) == 2
    captured = card.device.environment.captured
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == "1024" and captured["VLLM_DT_CHUNK_LEN"] == "512"
    assert card.device.kv.blocks == compiled_blocks(2, 1024, None)
