"""How texts become vectors or labels, by the model's files; what the user may say instead; what is not supported."""

import json
import shutil

import pytest

from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.pooling.facts import read_pooling_facts
from tests.conftest import make_tiny, resolved_run
from tests.served import EAGER_FLOAT32


@pytest.fixture
def folder(tiny, tmp_path):
    """The tiny model, to be changed."""
    return shutil.copytree(tiny, tmp_path / "model")


def edit(file, **changes):
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | changes))


def facts_of(folder):
    return read_pooling_facts(read_model_facts(folder))


def engine_of(folder, *words):
    return resolved_run([*EAGER_FLOAT32, f"model.path={folder}", *words]).run.config.engine


def test_minilm(minilm):
    facts = facts_of(minilm)
    assert (facts.pooling, facts.normalize, facts.has_modules) == ("mean", True, True)
    assert facts.max_length == 256 and facts.labels == () and not facts.matryoshka


@pytest.mark.parametrize(
    ("pooling", "normalize", "name"),
    [("cls_token", True, "cls"), ("lasttoken", False, "last"), ("mean_tokens", True, "mean")],
)
def test_pooling_follows_the_model_s_files_and_can_be_overridden(tmp_path, pooling, normalize, name):
    folder = make_tiny(tmp_path, pooling=pooling, normalize=normalize)
    engine = engine_of(folder)
    assert (engine.pooling, engine.normalize) == (name, normalize)
    engine = engine_of(folder, "engine.pooling=cls", "engine.normalize=true")
    assert (engine.pooling, engine.normalize) == ("cls", True)


def test_without_modules_json_mean_pooling_is_assumed_and_noted(folder):
    (folder / "modules.json").unlink()
    resolved = resolved_run([*EAGER_FLOAT32, f"model.path={folder}"])
    assert (resolved.run.config.engine.pooling, resolved.run.config.engine.normalize) == ("mean", False)
    assert any("mean pooling is assumed" in notice for notice in resolved.draft.notices)


def test_a_generating_model_runs_as_an_encoder_where_that_is_asked_for(folder):
    edit(folder / "config.json", architectures=["Qwen3ForCausalLM"])
    assert engine_of(folder).name == "pooling", "its modules.json says how it pools"
    (folder / "modules.json").unlink()
    assert engine_of(folder).name == "generation"
    assert engine_of(folder, "engine=pooling").name == "pooling"


def test_the_longest_input_is_what_files_and_positions_allow(folder):
    for limit, longest in ((48, 48), (100_000, 64), (None, 64)):
        edit(folder / "sentence_bert_config.json", max_seq_length=limit)
        assert facts_of(folder).max_length == longest


@pytest.mark.parametrize(
    ("config", "labels", "activation"),
    [
        ({"num_labels": 1, "id2label": {"0": "relevant"}}, ("relevant",), "sigmoid"),
        ({"id2label": {"0": "no", "1": "yes"}}, ("no", "yes"), "softmax"),
        ({}, ("LABEL_0", "LABEL_1"), "softmax"),
        ({"problem_type": "regression"}, ("LABEL_0", "LABEL_1"), "identity"),
        ({"problem_type": "multi_label_classification"}, ("LABEL_0", "LABEL_1"), "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Identity"}}, ("LABEL_0", "LABEL_1"), "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.Sigmoid"}, ("LABEL_0", "LABEL_1"), "sigmoid"),
    ],
)
def test_labels_and_activation_of_a_classifier(folder, config, labels, activation):
    edit(folder / "config.json", architectures=["BertForSequenceClassification"], **config)
    facts = facts_of(folder)
    assert (facts.labels, facts.activation) == (labels, activation) and facts.token_type_ids
    with pytest.raises(ConfigError, match=r"engine\.task=classify, and BertModel has no classification head"):
        edit(folder / "config.json", architectures=["BertModel"])
        engine_of(folder, "engine.task=classify")


def test_prompts_have_names(folder):
    prompts = {"query": "search for: ", "document": ""}
    edit(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query")
    assert (facts_of(folder).prompts, facts_of(folder).default_prompt) == (prompts, "query")


def write(name, text):
    def spoil(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return spoil


def with_module(kind, config=None, type_="sentence_transformers.models"):
    """Add a module to modules.json, behind the others."""

    def spoil(folder):
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps([*modules, {"type": f"{type_}.{kind}", "path": "3_It"}]))
        if config is not None:
            write("3_It/config.json", json.dumps(config))(folder)

    return spoil


def with_foreign_weights(folder):
    with_module("Dense", {"in_features": 32, "out_features": 8})(folder)
    write("3_It/pytorch_model.bin", "")(folder)


BREAKS = {
    "no known pooling": (
        write("1_Pooling/config.json", '{"pooling_mode_median_tokens": true}'),
        "1_Pooling/config.json asks for pooling pooling_mode_median_tokens, and supported are cls, max, mean",
    ),
    "no pooling at all": (write("1_Pooling/config.json", "{}"), "asks for pooling of no kind"),
    "a module of another kind": (with_module("WordWeights"), "has a module WordWeights, which is not supported"),
    "a module of its own": (with_module("Pooling", type_="mine"), "asks for the module mine.Pooling, code of its own"),
    "a dense module without weights": (
        with_module("Dense", {"in_features": 32, "out_features": 8}),
        "3_It has no model.safetensors",
    ),
    "a dense module with pickled weights": (with_foreign_weights, "pytorch_model.bin is pickled and is never loaded"),
    "a dense module of tokens": (
        with_module("Dense", {"in_features": 32, "out_features": 8, "module_input_name": "token_embeddings"}),
        "works on token_embeddings to token_embeddings",
    ),
    "a model of another form": (
        write("modules.json", '[{"type": "sentence_transformers.models.CLIPModel", "path": ""}]'),
        "begins with CLIPModel in the root, and only a Transformer in the root is supported",
    ),
    "a transformer in a folder": (
        write("modules.json", '[{"type": "sentence_transformers.models.Transformer", "path": "0_T"}]'),
        "begins with Transformer in 0_T",
    ),
    "no pooling module": (
        write("modules.json", '[{"type": "sentence_transformers.models.Transformer", "path": ""}]'),
        "has no Pooling",
    ),
    "another task": (
        write("sentence_bert_config.json", '{"transformer_task": "fill-mask"}'),
        "has transformer_task=fill-mask",
    ),
    "no list of modules": (write("modules.json", '{"0": "Pooling"}'), "modules.json: its content must be list"),
    "a module without a type": (write("modules.json", '[{"path": ""}]'), "modules.json lacks [0].type"),
    "a module elsewhere": (
        write("modules.json", '[{"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}]'),
        "modules.json names ../1_Pooling, which is outside the model's folder",
    ),
    "a length of another type": (
        write("sentence_bert_config.json", '{"max_seq_length": "64"}'),
        "sentence_bert_config.json: max_seq_length must be int",
    ),
    "a length below one": (
        write("sentence_bert_config.json", '{"max_seq_length": 0}'),
        "sentence_bert_config.json: max_seq_length must be int >= 1",
    ),
    "prompts in a list": (
        write("config_sentence_transformers.json", '{"prompts": ["query"]}'),
        "config_sentence_transformers.json: prompts must be mapping",
    ),
    "a prompt that is none": (
        write("config_sentence_transformers.json", '{"prompts": {"query": 3}}'),
        "config_sentence_transformers.json: prompts[...] must be text",
    ),
    "labels in a list": (lambda f: edit(f / "config.json", id2label=["no"]), "config.json: id2label must be mapping"),
    "a number of labels that is none": (
        lambda f: edit(f / "config.json", num_labels="three"),
        "config.json: num_labels must be int",
    ),
    "an activation that is none": (
        lambda f: edit(f / "config.json", sentence_transformers={"activation_fn": 3}),
        "config.json: sentence_transformers.activation_fn must be text",
    ),
    "no config of the pooling": (
        lambda f: (f / "1_Pooling" / "config.json").unlink(),
        "is missing",
    ),
    "another activation": (
        lambda f: edit(f / "config.json", sbert_ce_default_activation_function="torch.nn.GELU"),
        "asks for the activation torch.nn.GELU, which is not supported",
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_what_is_not_supported_is_named_before_anything_is_loaded(folder, kind):
    spoil, message = BREAKS[kind]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        facts_of(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_followed_is_named(folder):
    edit(folder / "sentence_bert_config.json", max_seq_length=32, processing_kwargs={"text": {"padding": "max_length"}})
    edit(folder / "config_sentence_transformers.json", similarity_fn_name="euclidean", temperature=3)
    edit(folder / "config.json", auto_map={"AutoModel": "modeling_mine.Model"})
    resolved = resolved_run([*EAGER_FLOAT32, f"model.path={folder}"])
    for line in (
        "sentence_bert_config.json has processing_kwargs={'text': {'padding': 'max_length'}}, which is not known here",
        "config_sentence_transformers.json has temperature=3, which is not known here and not followed",
        "similarity_fn_name=euclidean, and scores of pairs here are cosines",
        "config.json asks for code of its own (auto_map: AutoModel), which is not run",
    ):
        assert any(line in notice for notice in resolved.draft.notices), line


def test_nothing_is_named_where_all_is_followed(minilm):
    assert not facts_of(minilm).notices and not read_model_facts(minilm).notices


def test_a_model_that_generates_is_said_to(folder):
    edit(folder / "config.json", architectures=["Qwen3ForCausalLM"])
    (folder / "modules.json").unlink()
    resolved = resolved_run([*EAGER_FLOAT32, f"model.path={folder}", "engine=pooling"])
    assert resolved.run.config.engine.pooling == "last", "as sentence-transformers has it"
    assert any("Qwen3ForCausalLM generates text" in notice for notice in resolved.draft.notices)
    edit(folder / "config.json", is_causal=False)
    assert facts_of(folder).pooling == "mean"
