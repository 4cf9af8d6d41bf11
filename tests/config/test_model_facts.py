"""What a model's files say, and what is said of broken ones."""

import json

import pytest

from sendnn_pipeline.config.model_facts import read_model_facts
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.programs.checkpoint import count_parameters
from tests.conftest import make_tiny, resolved_run


def test_minilm(minilm):
    facts = read_model_facts(minilm)
    assert (facts.architecture, facts.hidden_size, facts.num_layers, facts.vocab_size) == ("BertModel", 384, 6, 30522)
    assert (facts.own_max_len, facts.position_limit) == (256, 512)
    assert (facts.pooling, facts.normalize, facts.has_pooling_files) == ("mean", True, True)


def test_the_count_of_parameters_equals_torch(minilm):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(minilm)
    counted = count_parameters(read_model_facts(minilm))
    buffers = 512  # position_ids, stored by the transformers version that wrote the file
    assert counted - sum(parameter.numel() for parameter in model.parameters()) in (0, buffers)


@pytest.mark.parametrize(
    ("pooling", "normalize", "name"),
    [("cls_token", True, "cls"), ("lasttoken", False, "last"), ("mean_tokens", True, "mean")],
)
def test_pooling_follows_the_model_s_files_and_can_be_overridden(tmp_path, pooling, normalize, name):
    folder = make_tiny(tmp_path, pooling=pooling, normalize=normalize)
    words = ["model=local", f"model.path={folder}", "backend=eager"]
    engine = resolved_run(words).run.config.engine
    assert (engine.pooling, engine.normalize) == (name, normalize)
    engine = resolved_run([*words, "engine.pooling=cls", "engine.normalize=true"]).run.config.engine
    assert (engine.pooling, engine.normalize) == ("cls", True)


def test_without_modules_json_mean_pooling_is_assumed_and_said(tmp_path):
    folder = make_tiny(tmp_path)
    (folder / "modules.json").unlink()
    run = resolved_run(["model=local", f"model.path={folder}", "backend=eager"]).run
    assert (run.config.engine.pooling, run.config.engine.normalize) == ("mean", False)
    assert any("mean pooling is assumed" in notice for notice in run.notices)


def test_roberta_positions_start_behind_the_padding(tmp_path):
    folder = make_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_model_facts(folder).position_limit == 512


def test_a_generating_model_needs_engine_pooling(tmp_path):
    folder = make_tiny(tmp_path)
    (folder / "modules.json").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Qwen3ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    words = ["model=local", f"model.path={folder}", "backend=eager"]
    with pytest.raises(Exception, match="engine=pooling serves embeddings from it"):
        resolved_run(words)
    assert resolved_run([*words, "engine=pooling"]).run.config.engine.name == "pooling"


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def scribble(file):
    file.write_bytes(b"\xff" * 64)


BREAKS = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json is not readable as JSON"),
    "config of another kind": (lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "foreign config": (lambda f: (f / "config.json").write_text('{"a": 1}'), "config.json lacks a usable"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "pickled weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin is pickled or foreign and is never loaded",
    ),
    "cut weights": (lambda f: cut(f / "model.safetensors"), "model.safetensors is no whole safetensors file"),
    "scribbled weights": (lambda f: scribble(f / "model.safetensors"), "model.safetensors is no whole safetensors"),
    "two poolings": (
        lambda f: (f / "1_Pooling" / "config.json").write_text(
            '{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}'
        ),
        "1_Pooling/config.json asks for pooling",
    ),
    "max pooling": (
        lambda f: (f / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}'),
        "1_Pooling/config.json asks for pooling",
    ),
    "a dense module": (
        lambda f: (f / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense", "path": ""}]'),
        "has a module Dense",
    ),
    "a missing shard": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        ),
        "model-1.safetensors is missing",
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_broken_models_are_named_before_anything_is_loaded(tmp_path, kind):
    folder = make_tiny(tmp_path)
    spoil, message = BREAKS[kind]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        count_parameters(read_model_facts(folder))
    assert message in str(caught.value) and "\n" not in str(caught.value)
