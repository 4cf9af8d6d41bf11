"""Weights that are not finite, met by warmup."""

import shutil

from safetensors.torch import load_file, save_file

from tests.served import EAGER_FLOAT32


def test_they_are_one_line(tiny, tmp_path, whole_run):
    folder = shutil.copytree(tiny, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][5:60] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ended = whole_run(*EAGER_FLOAT32, f"model.path={folder}", "warmup.shapes=[16x1]")
    assert ended.returncode == 1 and "Traceback" not in ended.stdout + ended.stderr
    (error,) = [line for line in (ended.stdout + ended.stderr).splitlines() if "error" in line]
    assert "not finite" in error and "are the weights whole?" in error
