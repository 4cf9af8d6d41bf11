"""What a model's own files say, whatever runs it, and what is said of broken ones."""

import json
import re
import shutil
from pathlib import Path

import pytest
import transformers
from transformers import CONFIG_MAPPING

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.models.positions import PADDING_INDEX, read_positions

OWN_POSITIONS = re.compile(r"max_position_embeddings,\s+config.hidden_size,\s+padding_idx=self.padding_idx")
# The positions are those of a protein encoder, and of a picture's layout.
NOT_TEXT = {"evolla", "pp_doclayout_v2"}


@pytest.fixture
def folder(tiny, tmp_path):
    """The tiny model, to be spoiled."""
    return shutil.copytree(tiny, tmp_path / "model")


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_minilm(minilm):
    facts = read_model_facts(minilm)
    assert (facts.architecture, facts.hidden_size, facts.num_layers, facts.vocab_size) == ("BertModel", 384, 6, 30522)
    assert facts.position_limit == 512 and facts.config["model_type"] == facts.model_type == "bert"


def test_the_count_of_parameters_equals_torch(minilm):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(minilm)
    counted = read_model_facts(minilm).num_parameters
    buffers = 512  # position_ids, stored by the transformers version that wrote the file
    assert counted - sum(parameter.numel() for parameter in model.parameters()) in (0, buffers)


def test_roberta_positions_start_behind_the_padding(folder):
    edit(folder / "config.json", model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert read_model_facts(folder).position_limit == 512


@pytest.mark.parametrize(("pad", "limit"), [({"pad_token_id": 1}, 64), ({"pad_token_id": 3}, 62), ({}, 64)])
@pytest.mark.parametrize("kind", ["roberta", "roberta-prelayernorm", "data2vec-text", "xmod", "camembert"])
def test_positions_begin_behind_the_padding_index_as_in_transformers(kind, pad, limit, tmp_path):
    import torch
    from transformers import AutoModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    languages = {"languages": ["en"], "default_language": "en"} if kind == "xmod" else {}
    config = {"model_type": kind, "vocab_size": 20, "max_position_embeddings": 66, **sizes, **languages}
    text = CONFIG_MAPPING[kind](**config, **pad)
    found, pad_token_id = read_positions({**config, **pad}, kind, tmp_path)
    assert (found, pad_token_id) == (limit, text.pad_token_id)
    model = AutoModel.from_config(text).eval()
    with torch.no_grad():
        model(input_ids=torch.full((1, found), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, found + 1), 5))


def test_every_model_whose_positions_begin_behind_its_padding_is_known():
    models = Path(transformers.__file__).parent / "models"
    files = [file for file in models.glob("*/modeling_*.py") if OWN_POSITIONS.search(file.read_text())]
    # Vision with text: the text model's type counts.
    known = {kind.removesuffix("_text_model").removesuffix("-text").replace("-", "_") for kind in PADDING_INDEX}
    assert {file.parent.name for file in files} - known <= NOT_TEXT
    for kind, pad in PADDING_INDEX.items():
        assert CONFIG_MAPPING[kind]().pad_token_id == pad, kind


def test_a_padding_index_that_is_not_there_is_named(folder):
    edit(folder / "config.json", model_type="roberta", pad_token_id=None)
    with pytest.raises(ModelError, match="has no pad_token_id, and positions of roberta begin behind it"):
        read_model_facts(folder)


@pytest.mark.parametrize("pad", [-1, 10**6, None])
def test_padding_of_other_models_is_always_an_embedding(folder, pad):
    edit(folder / "config.json", pad_token_id=pad)
    assert read_model_facts(folder).pad_token_id == 0


@pytest.mark.parametrize("kind", ["xlnet", "bart"])
def test_models_of_no_hidden_size_are_refused_by_name(folder, kind):
    (folder / "config.json").write_text(json.dumps(CONFIG_MAPPING[kind]().to_dict() | {"architectures": ["X"]}))
    with pytest.raises(ModelError, match=f"has no hidden_size: models of the type {kind} are not supported"):
        read_model_facts(folder)


def test_the_text_model_of_several_is_the_one_that_counts(folder):
    text = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 3, "max_position_embeddings": 77}
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": text}))
    facts = read_model_facts(folder)
    assert (facts.vocab_size, facts.hidden_size, facts.num_layers, facts.position_limit) == (9, 8, 3, 77)
    assert facts.text_config == text and facts.model_type == "llava" and facts.architecture == "unknown"


def test_the_digest_of_the_structure_tells_models_apart_and_not_their_weights(tiny, folder):
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    before, tensors = read_model_facts(tiny).structure_digest, load_file(file)
    assert read_model_facts(folder).structure_digest == before
    name = "embeddings.LayerNorm.weight"
    save_file(tensors | {name: tensors[name] + 1}, file)
    assert read_model_facts(folder).structure_digest == before
    save_file(tensors | {name: tensors[name][:-1]}, file)
    assert read_model_facts(folder).structure_digest != before
    save_file(tensors, file)
    edit(folder / "config.json", layer_norm_eps=0.5)
    assert read_model_facts(folder).structure_digest != before


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def scribble(file):
    file.write_bytes(b"\xff" * 64)


def index(folder, weight_map):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


BREAKS = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json is not readable as JSON"),
    "config of another kind": (lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "foreign config": (lambda f: (f / "config.json").write_text('{"a": 1}'), "config.json lacks model_type"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "pickled weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin is pickled or foreign and is never loaded",
    ),
    "cut weights": (lambda f: cut(f / "model.safetensors"), "model.safetensors is not a whole safetensors file"),
    "scribbled weights": (lambda f: scribble(f / "model.safetensors"), "model.safetensors is not a whole safetensors"),
    "a missing shard": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        ),
        "model-1.safetensors is missing",
    ),
    "a shard elsewhere": (
        lambda f: index(f, {"a": "../outside.safetensors"}),
        "model.safetensors.index.json names ../outside.safetensors, which is outside the model's folder",
    ),
    "a shard at the root": (lambda f: index(f, {"a": "/etc/passwd"}), "names /etc/passwd, which is outside"),
    "an index of another kind": (
        lambda f: index(f, ["model.safetensors"]),
        "model.safetensors.index.json: weight_map must be mapping",
    ),
    "an index of other names": (lambda f: index(f, {"a": 3}), "weight_map[...] must be text"),
    "no folder": (shutil.rmtree, "is not a folder"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_broken_models_are_named_before_anything_is_loaded(folder, kind):
    spoil, message = BREAKS[kind]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        read_model_facts(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


WRONG = {
    "pad_token_id": ("x", "int"),
    "vocab_size": (0, "int >= 1"),
    "hidden_size": ("32", "int"),
    "max_position_embeddings": ([64], "int"),
    "num_hidden_layers": ({}, "int"),
    "architectures": ("BertModel", "list"),
    "model_type": (3, "text"),
    "text_config": ([], "mapping"),
    "intermediate_size": ([64], "int"),
    "num_attention_heads": (float("nan"), "int"),
    "num_key_value_heads": (0, "int >= 1"),
}


@pytest.mark.parametrize("entry", WRONG)
def test_a_wrong_entry_of_config_json_is_one_line(folder, entry):
    value, must = WRONG[entry]
    edit(folder / "config.json", **{entry: value})
    with pytest.raises(ModelError) as caught:
        read_model_facts(folder)
    line = f"{folder / 'config.json'}: {entry} must be {must}; fetch the model again, or correct the file"
    assert str(caught.value) == line


def test_the_part_of_a_text_model_is_read_the_same_way(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config=config | {"pad_token_id": 3})
    assert read_model_facts(folder).pad_token_id == 3
    del config["vocab_size"]
    edit(folder / "config.json", text_config=config)
    with pytest.raises(ModelError, match=r"config\.json lacks vocab_size; is this a transformers model\?"):
        read_model_facts(folder)
