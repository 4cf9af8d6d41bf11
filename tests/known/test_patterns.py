"""The entries of ``conf/known`` against the models' own documents, and their runtimes against the registry's table."""

import copy

import pytest

from sendnn_pipeline.config.options import own_conf_dir
from sendnn_pipeline.known.entry import Runtime, check_names, read_known
from sendnn_pipeline.known.match import best_match, find_differences, find_named, select_usable
from tests.known.models import HEADS, LLAVA_TEXT, LOOKALIKES, MODELS, llava

LEN, SEQS, BLOCKS = "model.max_model_len", "scheduler.max_num_seqs", "cache.num_blocks"


@pytest.fixture(scope="module")
def registry():
    return check_names(read_known(own_conf_dir() / "known"))


def test_there_are_21_entries_of_23_models(registry):
    assert {config.name for config in registry} == MODELS.keys() and len(registry) == 21
    aliases = {alias: config.name for config in registry for alias in config.aliases}
    assert aliases == {"granite-4.2-8b": "granite-4-8b-dense", "granite-4.2-8b-fp8": "granite-4.1-8b-fp8"}
    assert all(find_named(registry, alias) == find_named(registry, name) for alias, name in aliases.items())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_s_own_config_finds_it_on_its_platforms(registry, name):
    model, platforms = MODELS[name]
    for machine in ("x86_64", "s390x", "ppc64le", "aarch64"):
        match = best_match(select_usable(registry, "sendnn", machine), model)
        assert (match.name if match else None) == (name if machine in platforms else None), machine
    assert best_match(select_usable(registry, "inductor", "x86_64"), model) is None
    renamed = {("dtype" if key == "torch_dtype" else key): value for key, value in model.items()}
    assert best_match(registry, renamed).name == name


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_look_alike_is_not_taken_for_a_known_model(registry, name):
    assert best_match(registry, LOOKALIKES[name]) is None


def test_a_pattern_says_whether_an_attribute_may_be_missing(registry):
    assert best_match(registry, llava(LLAVA_TEXT | HEADS)).name == "granite-vision-3.3-2b"
    assert find_differences(
        find_named(registry, "granite-vision-3.3-2b"), LOOKALIKES["granite-vision-other-heads"]
    ) == ["text_config.num_attention_heads is 16 instead of 32 or missing"]


DECODER = ("num_hidden_layers", "max_position_embeddings", "hidden_size", "vocab_size", "num_key_value_heads")
ENCODER = ("num_hidden_layers", "hidden_size", "vocab_size")
VISION = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def required(model):
    """Yield the attributes by which the registry of sendnn-inference 2.6.3 tells a model from others."""
    if "text_config" in model:
        yield from (("text_config", name) for name in (*DECODER, "num_attention_heads"))
        yield from (("vision_config", name) for name in VISION)
    elif "num_key_value_heads" in model:
        yield from ((name,) for name in (*DECODER, "num_attention_heads"))
    else:
        yield from ((name,) for name in ENCODER)


REQUIRED = [(name, path) for name, (model, _) in MODELS.items() for path in required(model)]
# Older files leave it out.
OPTIONAL = ("granite-vision-3.3-2b", ("text_config", "num_attention_heads"))


@pytest.mark.parametrize(("name", "path"), REQUIRED)
def test_a_model_that_differs_in_a_required_attribute_is_another(registry, name, path):
    *groups, key = path
    model = copy.deepcopy(MODELS[name][0])
    document = model[groups[0]] if groups else model
    document[key] = 3 * document.get(key, 16)
    match = best_match(registry, model)
    assert match is None or match.name != name
    del document[key]
    match = best_match(registry, model)
    assert (match is not None and match.name == name) == ((name, path) == OPTIONAL)


def runtimes_of(registry, name, tp_size):
    return {
        (runtime.values[LEN], runtime.values[SEQS]): runtime.values
        for runtime in find_named(registry, name).runtimes
        if runtime.tp_size == tp_size
    }


TP4 = {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072", "FLEX_HDMA_P2PSIZE": "268435456", "FLEX_HDMA_COLLSIZE": "33554432"}
FULL = {1: {(3072, 16), (8192, 4)}, 2: {(8192, 4)}, 4: {(32768, 32)}}
FP8 = {1: {(3072, 16)}, 4: {(16384, 4), (32768, 32)}}
MINISTRAL = {1: {(4096, 32)}, 4: {(32768, 32)}}
# The table of the registry of sendnn-inference 2.6.3: lengths and sequences by ranks.
GENERATING = {
    "granite-3.3-8b-instruct": FULL,
    "granite-3.3-8b-instruct-fp8": FP8,
    "llama-3.1-8b-instruct": FP8,
    "granite-4-8b-dense-hybrid": FULL,
    "granite-4-8b-dense": FULL,
    "granite-4.1-8b-fp8": FP8,
    "granite-4.1-30b": {4: {(32768, 32)}},
    "swa-20b": {4: {(32768, 32)}},
    "granite-vision-3.3-2b": {1: {(8192, 16)}, 2: {(16384, 16)}, 4: {(32768, 32)}},
    "mistral-small-3.2-24b-instruct-2506": {2: {(8192, 32)}, 4: {(32768, 32)}},
    "ministral-3-14b-instruct-2512": MINISTRAL,
    "ministral-3-8b-instruct-2512": MINISTRAL,
    "granite-4.2-8b": FULL,
    "granite-4.2-8b-fp8": FP8,
}
POOLING = {
    "granite-embedding-30m-english": ["512x64"],
    "granite-embedding-107m-multilingual": ["512x64"],
    "granite-embedding-125m-english": ["512x64"],
    "granite-embedding-278m-multilingual": ["512x64"],
    "multilingual-e5-large": ["512x64"],
    "multilingual-e5-large-instruct": ["512x4"],
    "bge-reranker-v2-m3": ["8192x1"],
    "bge-reranker-large": ["512x64"],
    "all-roberta-large-v1": ["128x8"],
}


@pytest.mark.parametrize("name", GENERATING)
def test_runtimes_of_generating_models(registry, name):
    for tp_size in (1, 2, 4, 8):
        runtimes = runtimes_of(registry, name, tp_size)
        assert runtimes.keys() == GENERATING[name].get(tp_size, set())
        for values in runtimes.values():
            if tp_size == 4:
                assert values["backend.environment"] == TP4
                assert values[BLOCKS] == (2080 if name == "granite-4.1-30b" else 8192)
            elif (name, tp_size) == ("granite-vision-3.3-2b", 2):
                assert values["backend.environment"] == {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072"}
            else:
                assert values.keys() == {LEN, SEQS}


@pytest.mark.parametrize("name", POOLING)
def test_runtimes_of_pooling_models(registry, name):
    (runtime,) = find_named(registry, name).runtimes
    assert runtime == Runtime(tp_size=1, values={"warmup.shapes": POOLING[name]})


def test_the_tables_are_complete(registry):
    assert GENERATING.keys() | POOLING.keys() == {name for config in registry for name in config.names}
