"""Programs that hold their weights: a start from their artifacts reads none, and other weights are not theirs."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sendnn_pipeline import Embedder
from sendnn_pipeline.errors import ArtifactError, EngineError
from sendnn_pipeline.models import checkpoint
from sendnn_pipeline.models.weights import CheckpointWeights
from tests.reference import mean_pooled_ids
from tests.served import FLOAT32

HEADER_BYTES = 8
ROWS = [[2, 11, 3], list(range(2, 62)), [2, 12, 13, 3]]


@pytest.fixture(scope="module")
def frozen(tiny, tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy of the tiny model, and words of a run whose one Program is compiled with the weights in it."""
    folder, cache = tmp_path_factory.mktemp("frozen") / "model", tmp_path_factory.mktemp("cache")
    shutil.copytree(tiny, folder)
    words = [*FLOAT32, f"model.path={folder}", "backend=inductor", "backend.freezing=true", "process.num_cpus=1"]
    words += ["warmup.shapes=[8..64x1..4]", f"cache_dir={cache}"]
    with Embedder(*words) as embedder:
        assert np.allclose(embedder.embed(ROWS), mean_pooled_ids(tiny, ROWS), atol=1e-5)
    return folder, [*words, "artifacts.require=true"]


def overwrite(file: Path, *, same_time: bool) -> None:
    """Fill a safetensors file with ones behind its header."""
    before = file.stat()
    start = HEADER_BYTES + int.from_bytes(file.read_bytes()[:HEADER_BYTES], "little")
    with file.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\x3f" * (before.st_size - start))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if same_time else 10**9)))


@pytest.mark.slow
def test_a_start_from_a_frozen_artifact_reads_no_weight(tiny, frozen, monkeypatch):
    folder, words = frozen
    asked, hashed = [], []
    get, digest = CheckpointWeights.__getitem__, checkpoint._digest
    monkeypatch.setattr(CheckpointWeights, "__getitem__", lambda self, name: asked.append(name) or get(self, name))
    monkeypatch.setattr(CheckpointWeights, "_files_by_name", lambda self: asked.append("a file"))
    monkeypatch.setattr(checkpoint, "_digest", lambda file: hashed.append(file) or digest(file))
    # To be sure: what is in the file now would give other vectors, or none.
    overwrite(folder / "model.safetensors", same_time=True)
    with Embedder(*words) as embedder:
        assert np.allclose(embedder.embed(ROWS), mean_pooled_ids(tiny, ROWS), atol=1e-5)
    assert asked == [] and hashed == []


@pytest.mark.slow
def test_other_weights_are_found_out(frozen):
    folder, words = frozen
    overwrite(folder / "model.safetensors", same_time=False)
    with pytest.raises((ArtifactError, EngineError), match=r"has no artifact and artifacts\.require=true: model is"):
        Embedder(*words).start()
