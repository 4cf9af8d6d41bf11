"""Which tensors of a module are the checkpoint's, and Programs that hold some that are not."""

import gc
from pathlib import Path

import pytest
import torch

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.backends.compiler import CACHE_VARIABLE, PREFIX
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.models.parameters import checkpoint_names
from sendnn_pipeline.programs.program import Program


def test_names_are_compared_from_their_ends():
    one, two, bias = torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(3)
    weights = {"bert.layer.0.dense.weight": one, "bert.layer.1.dense.weight": two.clone(), "bert.layer.0.bias": bias}
    tensors = {"model.layer.0.dense.weight": one, "model.layer.1.dense.weight": two, "model.layer.0.bias": bias}
    assert checkpoint_names(tensors, weights) == {name: name.replace("model", "bert") for name in tensors}
    headless = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    assert checkpoint_names(tensors, headless) == {name: name.removeprefix("model.") for name in tensors}


def test_a_head_that_is_the_embedding_has_its_name():
    embedding = torch.randn(5, 3)
    tensors = {"model.embed.weight": embedding, "head.weight": embedding, "other.weight": embedding.clone()}
    names = checkpoint_names(tensors, {"model.embed.weight": embedding.clone(), "model.norm.weight": torch.ones(3)})
    assert names == {"model.embed.weight": "model.embed.weight", "head.weight": "model.embed.weight"}


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


class Scored(torch.nn.Module):
    """A layer and a head of three labels, whose bias is short."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.dense, self.head = torch.nn.Linear(16, 16), torch.nn.Linear(16, 3)

    def forward(self, values):
        """Return what the head says."""
        return (self.head(self.dense(values).relu()),)


def graph_of(module, names):
    inputs = (Input("values", torch.rand(4, 16)),)
    return Graph(Program("score", ()), lambda: module, inputs, ("logits",), parameters=lambda: names)


def left(folder: Path) -> list[str]:
    gc.collect()
    return [path.name for path in folder.glob(f"{PREFIX}*")]


@pytest.mark.slow
def test_a_program_reads_every_parameter_that_is_named_and_holds_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    first, second = (Scored(seed).eval().requires_grad_(False) for seed in (0, 1))
    names = {name: f"model.{name}" for name, _ in first.named_parameters()}
    backend = InductorBackend(InductorConfig(name="inductor"))
    graph = graph_of(first, names)
    shared = backend.compile(graph)
    (compiled_in,) = left(tmp_path)
    # What it was built from, weights included where they are frozen, does not wait for it to be saved.
    assert [path.name for path in (tmp_path / compiled_in).iterdir()] == ["program.so"]
    (tmp_path / "saved").mkdir()
    shared.save(tmp_path / "saved")
    assert not shared.holds_parameters
    # The same structure with other weights, as another checkpoint that the artifact is opened for.
    weights = {names[name]: tensor for name, tensor in second.named_parameters()}
    calls = [shared.bind(weights), backend.open(tmp_path / "saved", graph).bind(weights)]
    # The folder goes with the Program; the calls do without it.
    del shared
    assert left(tmp_path) == []
    for call in calls:
        torch.testing.assert_close(call(*graph.example), second(*graph.example))
    unnamed = backend.compile(graph_of(first, {name: names[name] for name in names if name != "head.bias"}))
    assert unnamed.holds_parameters
    torch.testing.assert_close(
        unnamed.bind(weights)(*graph.example)[0],
        second(*graph.example)[0] - second.head.bias + first.head.bias,
    )
