"""Compiled Programs of sentence-transformers' models: what follows the pooling is part of them."""

import shutil

import numpy as np
import pytest
import sentence_transformers as st
from sentence_transformers.sentence_transformer import modules

from tests.sentence_models import PROMPTS, TEXTS, same, save


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_and_of_the_checkpoint_whose_weights_are_bound(tiny, tmp_path, dtype):
    """The second model opens the first one's artifact, as weights are shared in float32, and has its own Dense."""
    from safetensors.numpy import load_file, save_file

    after = [modules.Dense(64, 16), modules.Dense(16, 16), modules.LayerNorm(16), modules.Normalize()]
    pooled = {"pooling": ("cls", "weightedmean"), "include_prompt": False, "prompts": PROMPTS}
    first, second = tmp_path / "first", tmp_path / "second"
    save(tiny, first, *after, default_prompt_name="query", **pooled)
    shutil.copytree(first, second)
    for name in ("2_Dense", "3_Dense"):
        file = second / name / "model.safetensors"
        save_file({key: tensor * 2 + 0.1 for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    words = (
        "backend=inductor",
        f"model.dtype={dtype}",
        f"artifacts.dir={tmp_path / 'artifacts'}",
        "warmup.shapes=[8..32x1..4]",
    )
    found = []
    # Where weights are folded in, every checkpoint has an artifact of its own: see backends/test_frozen.py.
    for folder in (first, second) if dtype == "float32" else (first,):
        model = st.SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
        same(folder, model, *words, tolerance=1e-5 if dtype == "float32" else 0.05)
        found.append(model.encode(TEXTS))
    assert dtype != "float32" or np.abs(found[0] - found[1]).max() > 0.1
    assert len(list((tmp_path / "artifacts").glob("**/manifest.json"))) == 1
