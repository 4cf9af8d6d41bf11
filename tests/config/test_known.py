"""The registry of known configurations: 21 models by their own config.json, and what users say against it."""

import json

import pytest

from sendnn_pipeline.config.command_line import parse_words
from sendnn_pipeline.config.known import parse_known, read_known_file, read_options, unique
from sendnn_pipeline.config.known_layer import Place, with_known
from sendnn_pipeline.config.known_match import best_match, choose_runtime, usable
from sendnn_pipeline.config.options import conf_dir
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.host import open_host
from tests.conftest import clean_environ
from tests.served import sendnn

ALL, NOT_Z = {"x86_64", "s390x", "ppc64le"}, {"x86_64", "ppc64le"}
GRANITE_8B = {
    "architectures": ["GraniteForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 12800,
    "max_position_embeddings": 131072,
    "model_type": "granite",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
}
FP8 = {
    "quantization_config": {"format": "float-quantized", "quant_method": "compressed-tensors", "ignore": ["lm_head"]}
}


def encoder(kind, architecture, sizes, positions=514, **more):
    layers, hidden, vocab = sizes
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "max_position_embeddings": positions,
        "model_type": kind,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "vocab_size": vocab,
        **more,
    }


def mistral3(layers, hidden, positions, heads=32):
    text = {"model_type": "mistral", "num_hidden_layers": layers, "hidden_size": hidden, "vocab_size": 131072}
    text |= {"max_position_embeddings": positions, "num_attention_heads": heads, "num_key_value_heads": 8}
    vision = {"model_type": "pixtral", "num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16}
    return {"model_type": "mistral3", "text_config": text, "vision_config": vision}


LLAVA_TEXT = {
    "model_type": "granite",
    "num_hidden_layers": 40,
    "hidden_size": 2048,
    "vocab_size": 49156,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
}
LLAVA_VISION = {"num_hidden_layers": 27, "hidden_size": 1152, "num_attention_heads": 16}
LLAMA = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128256}
XLM, XLM_CLASSIFIER = "XLMRobertaModel", "XLMRobertaForSequenceClassification"
# What each model's own config.json says, as far as it tells the model from others.
MODELS = {
    "granite-3.3-8b-instruct": (GRANITE_8B | {"vocab_size": 49159}, ALL),
    "granite-3.3-8b-instruct-fp8": (GRANITE_8B | {"vocab_size": 49159} | FP8, ALL),
    "llama-3.1-8b-instruct": (LLAMA | {"max_position_embeddings": 131072}, NOT_Z),
    "granite-4-8b-dense-hybrid": (
        {"model_type": "granitemoehybrid", "num_experts_per_tok": 0, "vocab_size": 100352, "num_hidden_layers": 40},
        ALL,
    ),
    "granite-4-8b-dense": (GRANITE_8B | {"vocab_size": 100352}, ALL),
    "granite-4.1-8b-fp8": (GRANITE_8B | {"vocab_size": 100352} | FP8, ALL),
    "granite-4.1-30b": (GRANITE_8B | {"vocab_size": 100352, "num_hidden_layers": 64}, ALL),
    "swa-20b": ({"model_type": "granite_swa", "num_hidden_layers": 44, "vocab_size": 100352}, ALL),
    "granite-vision-3.3-2b": (
        {"model_type": "llava_next", "text_config": LLAVA_TEXT, "vision_config": LLAVA_VISION},
        ALL,
    ),
    "mistral-small-3.2-24b-instruct-2506": (mistral3(40, 5120, 131072), NOT_Z),
    "ministral-3-14b-instruct-2512": (mistral3(40, 5120, 262144), ALL),
    "ministral-3-8b-instruct-2512": (mistral3(34, 4096, 262144), ALL),
    "granite-embedding-30m-english": (encoder("roberta", "RobertaModel", (6, 384, 50265)), ALL),
    "granite-embedding-107m-multilingual": (encoder("xlm-roberta", XLM, (6, 384, 250002)), ALL),
    "granite-embedding-125m-english": (encoder("roberta", "RobertaModel", (12, 768, 50265)), ALL),
    "granite-embedding-278m-multilingual": (
        encoder("xlm-roberta", XLM, (12, 768, 250002), torch_dtype="bfloat16"),
        ALL,
    ),
    "multilingual-e5-large": (encoder("xlm-roberta", XLM, (24, 1024, 250002), torch_dtype="float32"), NOT_Z),
    "multilingual-e5-large-instruct": (encoder("xlm-roberta", XLM, (24, 1024, 250002), torch_dtype="float16"), NOT_Z),
    "bge-reranker-v2-m3": (encoder("xlm-roberta", XLM_CLASSIFIER, (24, 1024, 250002), 8194), NOT_Z),
    "bge-reranker-large": (encoder("xlm-roberta", XLM_CLASSIFIER, (24, 1024, 250002)), NOT_Z),
    "all-roberta-large-v1": (encoder("roberta", "RobertaForMaskedLM", (24, 1024, 50265)), NOT_Z),
}
TP4 = {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072", "FLEX_HDMA_P2PSIZE": "268435456", "FLEX_HDMA_COLLSIZE": "33554432"}


@pytest.fixture(scope="module")
def registry():
    files = {file.stem: file for file in (conf_dir() / "known").glob("*.yaml")}
    return unique(read_options(files, str))


def test_there_are_21_and_each_has_a_name_like_its_file(registry):
    assert {held.name for held in registry} == MODELS.keys() and len(registry) == 21
    assert all(held.where.endswith(f"/{held.name}.yaml") for held in registry)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_s_own_config_finds_it_on_its_platforms(registry, name):
    model, platforms = MODELS[name]
    for machine in ("x86_64", "s390x", "ppc64le", "aarch64"):
        found = best_match(usable(registry, "sendnn", machine), model)
        assert (found.name if found else None) == (name if machine in platforms else None), machine
    assert best_match(usable(registry, "inductor", "x86_64"), model) is None
    renamed = {("dtype" if key == "torch_dtype" else key): value for key, value in model.items()}
    assert best_match(registry, renamed).name == name


def test_what_they_must_not_capture(registry):
    for model in (
        encoder("roberta", "RobertaForMaskedLM", (12, 768, 50265)),  # roberta-base
        encoder("roberta", "RobertaForSequenceClassification", (12, 768, 50265)),  # a cross-encoder of that size
        encoder("xlm-roberta", XLM, (24, 1024, 30000)),
        LLAMA | {"max_position_embeddings": 8192},
        GRANITE_8B | {"vocab_size": 49159, "num_hidden_layers": 3},
        mistral3(24, 2048, 262144),
        {"model_type": "bert", "num_hidden_layers": 6},
    ):
        assert best_match(registry, model) is None, model


def runtimes(registry, name, tp_size):
    found = next(held for held in registry if held.name == name)
    return {
        (held.values["model.max_model_len"], held.values["scheduler.max_num_seqs"]): held.values
        for held in found.runtimes
        if held.tp_size == tp_size
    }


def test_runtimes_of_generating_models(registry):
    assert runtimes(registry, "granite-3.3-8b-instruct", 1).keys() == {(3072, 16), (8192, 4)}
    assert runtimes(registry, "granite-3.3-8b-instruct", 2).keys() == {(8192, 4)}
    eight, thirty = (runtimes(registry, name, 4)[32768, 32] for name in ("granite-3.3-8b-instruct", "granite-4.1-30b"))
    assert eight["cache.num_blocks"] == 8192 and thirty["cache.num_blocks"] == 2080
    assert eight["backend.environment"] == thirty["backend.environment"] == TP4
    vision = runtimes(registry, "granite-vision-3.3-2b", 2)[16384, 16]
    assert vision["backend.environment"] == {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072"}
    assert runtimes(registry, "llama-3.1-8b-instruct", 4).keys() == {(16384, 4), (32768, 32)}


def test_the_user_s_values_choose_among_runtimes(registry):
    granite = next(held for held in registry if held.name == "granite-3.3-8b-instruct")

    def chosen(tp_size, **said):
        keys = {"len": "model.max_model_len", "seqs": "scheduler.max_num_seqs", "blocks": "cache.num_blocks"}
        return choose_runtime(granite, {keys[name]: value for name, value in said.items()}, tp_size)

    assert chosen(1)[0].values["model.max_model_len"] == 3072
    assert chosen(1, len=8192)[0].values["scheduler.max_num_seqs"] == 4
    assert chosen(4, len=32768, seqs=32)[0].values["cache.num_blocks"] == 8192
    for tp_size, said in ((1, {"len": 4096}), (1, {"len": 3072, "seqs": 4}), (3, {}), (4, {"seqs": 31})):
        runtime, differing = chosen(tp_size, **said)
        assert runtime is None and differing
    runtime, differing = chosen(4, blocks=2080)
    assert runtime is not None and [(one.key, one.said, one.known) for one in differing] == [
        ("cache.num_blocks", 2080, 8192)
    ]


def laid(registry, name, *words, environ=None, tp_size=1, machine="x86_64"):
    host = open_host(clean_environ(**(environ or {})))
    words = ["model=local", "model.path=/nowhere", "backend=sendnn", *words]
    layered = host.layer(parse_words(words))
    place = Place("sendnn", machine, {**host.environ}, tp_size)
    return with_known(layered, registry, MODELS[name][0], place)


def test_it_is_laid_over_conf_and_under_the_user(registry):
    found = laid(registry, "granite-embedding-30m-english")
    assert found.composed.run.warmup.shapes == ["512x64"] and found.notices == ()
    origin, under = found.provenance.origins["warmup.shapes"][:2]
    assert origin.layer == "known" and "granite-embedding-30m-english.yaml" in origin.where and under.value == "auto"
    assert found.composed.run.known.name == "granite-embedding-30m-english"


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["warmup.shapes=[256x8]"], {}, "[256x8] (warmup.shapes=[256x8])"),
        ([], {"SENDNN_INFERENCE_WARMUP_PROMPT_LENS": "128"}, "[128x1]"),
        (["warmup=balanced"], {}, "[32x32,64x16,128x8,256x4] (conf/warmup/balanced.yaml (warmup=balanced))"),
    ],
)
def test_a_user_s_different_shapes_stay_and_both_are_named(registry, words, environ, said):
    found = laid(registry, "granite-embedding-30m-english", *words, environ=environ)
    (notice,) = found.notices
    assert notice.startswith(
        "known configuration granite-embedding-30m-english says warmup.shapes=[512x64], and this run"
    )
    assert said in notice
    assert found.composed.run.warmup.shapes != ["512x64"]
    with pytest.raises(ConfigError, match=r"known.require=true, and known configuration .* says warmup.shapes"):
        laid(registry, "granite-embedding-30m-english", *words, "known.require=true", environ=environ)


def test_a_user_s_equal_shapes_fit(registry):
    found = laid(registry, "granite-embedding-30m-english", "warmup.shapes=[512x64]", "known.require=true")
    assert found.notices == () and found.composed.run.warmup.shapes == ["512x64"]


def test_device_values_of_the_environment_stay_and_are_named(registry):
    found = laid(registry, "granite-3.3-8b-instruct", tp_size=4, environ={"FLEX_HDMA_P2PSIZE": "1024"})
    assert found.composed.run.cache.num_blocks == 8192 and found.composed.run.model.max_model_len == 32768
    assert found.composed.run.backend.environment == {key: TP4[key] for key in TP4 if key != "FLEX_HDMA_P2PSIZE"}
    (notice,) = found.notices
    assert notice.endswith("says FLEX_HDMA_P2PSIZE=268435456, and the environment 1024")
    same = laid(registry, "granite-3.3-8b-instruct", tp_size=4, environ={"FLEX_HDMA_P2PSIZE": "268435456"})
    assert same.notices == ()


def test_what_is_required_is_refused_with_the_nearest(registry):
    with pytest.raises(ConfigError, match=r"no known configuration fits this granite model") as caught:
        odd = {"granite": (GRANITE_8B | {"vocab_size": 100352, "num_hidden_layers": 36}, ALL)}
        layered = open_host(clean_environ()).layer(
            parse_words(["model=local", "model.path=/nowhere", "backend=sendnn", "known.require=true"])
        )
        with_known(layered, registry, odd["granite"][0], Place("sendnn", "x86_64", {}))
    assert "granite-4-8b-dense (num_hidden_layers is 40 there and 36 here)" in caught.value.hint
    assert caught.value.where == "known.require=true"
    with pytest.raises(ConfigError, match="says tp_size=4, and this run 1"):
        laid(registry, "granite-4.1-30b", "known.require=true")


def test_one_can_be_named_or_none(registry):
    named = laid(registry, "granite-embedding-30m-english", "known=granite-embedding-30m-english")
    assert named.composed.run.warmup.shapes == ["512x64"]
    assert laid(registry, "granite-embedding-30m-english", "known=none").composed.run.warmup.shapes == "auto"
    with pytest.raises(ConfigError, match="is for another model: num_hidden_layers is 12 there and 6 here"):
        laid(registry, "granite-embedding-30m-english", "known=granite-embedding-125m-english")
    with pytest.raises(ConfigError, match=r"there is no known configuration granite"):
        laid(registry, "granite-embedding-30m-english", "known.name=granite")
    with pytest.raises(
        ConfigError, match=r"is for backend sendnn .* on x86_64 or ppc64le, and this is sendnn on s390x"
    ):
        laid(registry, "all-roberta-large-v1", "known=all-roberta-large-v1", machine="s390x")


def entry(name, **more):
    return {"name": name, "match": {"model_type": "bert"}, "backends": ["eager"], "runtimes": [{}], **more}


def test_equally_specific_patterns_are_an_error():
    configs = [parse_known(entry(name), f"{name}.yaml") for name in ("one", "two")]
    with pytest.raises(ConfigError, match=r"one \(one.yaml\) and two \(two.yaml\) fit this model equally well"):
        best_match(configs, {"model_type": "bert"})
    narrower = parse_known(entry("three", match={"model_type": "bert", "a": {"b": 1}}), "three.yaml")
    assert best_match([*configs, narrower], {"model_type": "bert", "a": {"b": 1, "c": 2}}).name == "three"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "holds no mapping"),
        ({"name": "a"}, "has no match"),
        (entry("a", shape=1), "has the unknown entry shape; known are"),
        (entry("a", match={"x": 1}), "matches without model_type"),
        (entry("a", runtimes=[{}, {}]), "has a runtime configuration twice"),
        (entry("a", runtimes=["b"]), "a runtime that is no mapping"),
    ],
)
def test_entries_that_are_none(content, says):
    with pytest.raises(ConfigError) as caught:
        parse_known(content, "a.yaml")
    assert says in str(caught.value)


REGISTRY_FORM = """
_templates: {anything: [1, 2]}
models:
  org/one:
    architecture: {model_type: bert, num_hidden_layers: 2}
    platforms: [x86_64]
    static_batching_configs:
      - {tp_size: 1, warmup_shapes: [{prompt_len: 64, batch_size: 8, new_tokens: 0}, {prompt_len: 32, batch_size: 1}]}
  org/two:
    architecture: {model_type: pixtral, text_config: {num_hidden_layers: 4}}
    continuous_batching_configs:
      - tp_size: 4
        max_model_len: 1024
        max_num_seqs: 2
        device_config: {env_vars: {A_SIZE: 7}, num_gpu_blocks_override: {torch_sendnn_lt_1_0_3: 2080, default: 8192}}
"""


def test_the_registry_s_own_form_is_read(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(REGISTRY_FORM)
    one, two = read_known_file(str(file), "test")
    assert one.name == "org/one" and one.platforms == ("x86_64",) and "sendnn" in one.backends
    assert one.runtimes[0].values == {"warmup.shapes": ["32x1", "64x8"]}
    assert two.match["model_type"] == "mistral3" and two.runtimes[0].tp_size == 4
    assert two.runtimes[0].values == {
        "model.max_model_len": 1024,
        "scheduler.max_num_seqs": 2,
        "cache.num_blocks": 8192,
        "backend.environment": {"A_SIZE": "7"},
    }
    file.write_text("models:\n")
    assert read_known_file(str(file), "test") == ()


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("{a: {architecture: {num_layers: 1}}}", "a has no architecture.model_type"),
        ("{a: {architecture: {model_type: b, x: null}}}", "a has an attribute that is null: x"),
        ("{a: {architecture: {model_type: b}}}", "a has no runtime configuration"),
        (
            "{a: {architecture: {model_type: b}, continuous_batching_configs: [{tp_size: 1, max_model_len: 2}]}}",
            "a lacks 'max_num_seqs'",
        ),
        (
            "{a: {architecture: {model_type: b}, static_batching_configs: [{tp_size: x, warmup_shapes: []}]}}",
            "a has a number that is none",
        ),
        ("[1]", "models is no mapping"),
    ],
)
def test_wrong_entries_of_the_registry_s_form_are_named(tmp_path, models, says):
    file = tmp_path / "mine.yaml"
    file.write_text(f"models: {models}\n")
    with pytest.raises(ConfigError) as caught:
        read_known_file(str(file), "test")
    assert says in str(caught.value)


def test_a_whole_run_takes_a_user_s_file_and_says_so(tiny, tmp_path):
    model = json.loads((tiny / "config.json").read_text())
    file = tmp_path / "mine.yaml"
    runtime = {"warmup.shapes": ["16x2", "48x2"], "scheduler.max_num_batched_tokens": 96}
    match = {"model_type": "bert", "num_hidden_layers": model["num_hidden_layers"]}
    file.write_text(json.dumps([entry("mine", match=match, runtimes=[runtime])]))
    words = ("model=local", f"model.path={tiny}", "backend=eager", f"known.file={file}")
    ended = sendnn(*words, "pipeline=precompile", "known.require=true")
    assert ended.returncode == 0, ended.stderr
    assert f"known    mine  ({file} fits the model's config.json)" in ended.stdout
    assert "pool[batch=2,len=48]" in ended.stdout
    said = sendnn("explain", "scheduler.max_num_batched_tokens", *words)
    assert f"= 96\n  from mine ({file}) (known)" in said.stdout, said.stdout
    other = sendnn(*words, "pipeline=precompile", "scheduler.max_num_batched_tokens=64")
    assert "note: known configuration mine says scheduler.max_num_batched_tokens=96, and this run 64" in other.stdout
    refused = sendnn("model=local", f"model.path={tiny}", "backend=eager", SENDNN_INFERENCE_REQUIRE_KNOWN_CONFIG="1")
    assert refused.returncode == 2 and "load" not in refused.stdout
    assert "no known configuration fits this bert model" in refused.stderr
    assert "SENDNN_INFERENCE_REQUIRE_KNOWN_CONFIG" in refused.stderr


def test_a_file_that_cannot_be_used_is_one_line(tiny, tmp_path):
    words = ("model=local", f"model.path={tiny}", "backend=eager")
    missing = sendnn(*words, SENDNN_INFERENCE_MODEL_CONFIG_FILE="/nowhere.yaml")
    assert missing.returncode == 2
    assert "known.file=/nowhere.yaml is no file (set by SENDNN_INFERENCE_MODEL_CONFIG_FILE)" in missing.stderr
    file = tmp_path / "bad.yaml"
    file.write_text("a: [")
    assert "bad.yaml cannot be read as YAML" in sendnn(*words, f"known.file={file}").stderr
    file.write_text(json.dumps(entry("odd", runtimes=[{"serve.prot": 1}])))
    assert "known configuration odd" in (said := sendnn(*words, f"known.file={file}").stderr)
    assert "sets serve.prot, which is no key" in said
    file.write_text(json.dumps(entry("odd", runtimes=[{"serve.port": "many"}])))
    assert "sets serve.port: Value 'many'" in sendnn(*words, f"known.file={file}").stderr
