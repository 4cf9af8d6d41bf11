"""Which tensors of a module are the checkpoint's, and artifacts that hold some that are not."""

import json

import pytest
import torch

from sendnn_pipeline.backends.export import checkpoint_names
from sendnn_pipeline.backends.inductor import CONSTANTS, InductorBackend
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.checkpoint import content_digest
from tests.conftest import resolved_run


def test_names_are_compared_from_their_ends():
    one, two, bias = torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(3)
    weights = {"bert.layer.0.dense.weight": one, "bert.layer.1.dense.weight": two.clone(), "bert.layer.0.bias": bias}
    tensors = {"model.layer.0.dense.weight": one, "model.layer.1.dense.weight": two, "model.layer.0.bias": bias}
    assert checkpoint_names(tensors, weights) == {name: name.replace("model", "bert") for name in tensors}
    headless = {name.removeprefix("bert."): held for name, held in weights.items()}
    assert checkpoint_names(tensors, headless) == {name: name.removeprefix("model.") for name in tensors}


def test_equal_values_under_another_name_are_not_the_same_tensor():
    zeros = torch.zeros(3)
    weights = {"a.one.bias": zeros, "a.two.bias": zeros.clone()}
    assert checkpoint_names({"model.three.bias": zeros}, weights) == {}
    assert checkpoint_names({"model.one.bias": zeros, "positions": torch.arange(3)}, weights) == {
        "model.one.bias": "a.one.bias"
    }
    other = {"a.one.bias": torch.ones(3), "a.two.bias": zeros}
    assert checkpoint_names({"model.one.bias": zeros}, other) == {}


def test_names_of_older_checkpoints():
    scale, shift = torch.rand(3), torch.rand(3)
    weights = {"bert.LayerNorm.gamma": scale, "bert.LayerNorm.beta": shift}
    tensors = {"model.LayerNorm.weight": scale, "model.LayerNorm.bias": shift}
    assert checkpoint_names(tensors, weights) == {
        "model.LayerNorm.weight": "bert.LayerNorm.gamma",
        "model.LayerNorm.bias": "bert.LayerNorm.beta",
    }


def test_an_artifact_with_parameters_of_its_own_is_for_its_weights_only(tiny, tmp_path):
    run = resolved_run(["model=local", f"model.path={tiny}", "backend=inductor", f"cache_dir={tmp_path}"]).run
    (tmp_path / CONSTANTS).write_text(json.dumps({"names": {}, "bound_to": "another"}))
    with pytest.raises(BackendError, match="it holds parameters of other weights"):
        InductorBackend().load(tmp_path, {}, run)
    (tmp_path / CONSTANTS).write_text(json.dumps({"names": {}, "bound_to": content_digest(run.model)}))
    with pytest.raises(BackendError) as caught:
        InductorBackend().load(tmp_path, {}, run)
    assert "other weights" not in str(caught.value), "it is for these, and fails later: no library is there"
