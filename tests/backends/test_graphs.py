"""What a graph may ask of a backend: inputs that it writes into, several outputs, and weights that are exchanged."""

import gc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from sendnn_pipeline.backends.base import CompileBackend, Graph, Input
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.backends.inductor import InductorBackend, embedded_weights
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.program import Dim, Program

WIDTH, LAYERS = 16, 4
# A cache of so many rows takes 64 MiB.
ROWS = 2**20


class Layer(nn.Module):
    """One layer of many alike: two outputs of other shapes and dtypes."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm, self.scale = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.arange(WIDTH, dtype=torch.float32), persistent=False)

    def forward(self, hidden):
        out = self.norm(torch.tanh(self.dense(hidden)) + hidden + self.steps) * self.scale.expand(WIDTH)
        return out, out.argmax(dim=-1)


class Cache(nn.Module):
    """Writes rows into a cache where they belong and reads some others."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 3.0), requires_grad=False)

    def forward(self, cache, slots, rows, wanted):
        cache.index_copy_(0, slots, rows * self.scale)
        return cache.index_select(0, wanted).sum(dim=0, keepdim=True), cache.index_select(0, slots)


@dataclass
class OfLayer(Mapping[str, torch.Tensor]):
    """A checkpoint as one layer sees it: its own number in every name."""

    weights: Mapping[str, torch.Tensor]
    layer: int

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.weights[name.format(layer=self.layer)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def layer_graph() -> Graph:
    module = Layer().eval().requires_grad_(False)
    return Graph(
        Program("layer", (Dim("batch", 8, 1),)),
        build=lambda: module,
        inputs=(Input("hidden", torch.randn(3, WIDTH), {0: "batch"}),),
        outputs=("hidden", "best"),
        parameters=lambda: {name: f"model.layers.{{layer}}.{name}" for name, _ in module.named_parameters()},
    )


def cache_graph() -> Graph:
    return Graph(
        Program("write", (Dim("rows", 64, 1),)),
        build=lambda: Cache().eval(),
        inputs=(
            Input("cache", torch.zeros(ROWS, WIDTH), written=True),
            Input("slots", torch.arange(4), {0: "rows"}),
            Input("rows", torch.randn(4, WIDTH), {0: "rows"}),
            Input("wanted", torch.arange(4), {0: "rows"}),
        ),
        outputs=("sum", "written"),
    )


@pytest.fixture(scope="module", params=["eager", "inductor"])
def backend(request) -> CompileBackend:
    if request.param == "eager":
        return EagerBackend(BackendConfig(name="eager"))
    return InductorBackend(InductorConfig(name="inductor"))


def again(backend: CompileBackend, graph: Graph, folder: Path):
    """Yield the Program as it was compiled and, where the backend keeps artifacts, as it is opened from one."""
    made = backend.compile(graph)
    yield made
    if backend.limits.artifacts == "files":
        made.save(folder)
        yield backend.open(folder, graph)


@pytest.fixture(scope="module")
def layers(backend, tmp_path_factory):
    return list(again(backend, layer_graph(), tmp_path_factory.mktemp("layer")))


@pytest.fixture(scope="module")
def caches(backend, tmp_path_factory):
    return list(again(backend, cache_graph(), tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    shapes = {"dense.weight": (WIDTH, WIDTH), "dense.bias": (WIDTH,), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes["scale"] = (1,)
    return {
        f"model.layers.{layer}.{name}": torch.randn(shape) for layer in range(LAYERS) for name, shape in shapes.items()
    }


def expected(checkpoint, layer, hidden):
    """What a layer gives, in float64 and written out."""
    get = {name.split(f"{layer}.", 1)[1]: w.double() for name, w in checkpoint.items() if f".{layer}." in name}
    x = torch.tanh(hidden.double() @ get["dense.weight"].T + get["dense.bias"]) + hidden + torch.arange(WIDTH)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return (x * get["norm.weight"] + get["norm.bias"]) * get["scale"]


def test_one_compiled_layer_over_the_weights_of_each(backend, layers, checkpoint):
    assert backend.limits.exchangeable_weights
    for compiled in layers:
        calls = [compiled.bind(OfLayer(checkpoint, layer)) for layer in range(LAYERS)]
        # Bound weights stay where they are, and nobody else need keep them.
        gc.collect()
        with torch.no_grad():
            for batch in (1, 3, 8):
                hidden = torch.randn(batch, WIDTH)
                for layer in (*range(LAYERS), *reversed(range(LAYERS))):
                    found, best = calls[layer](hidden)
                    wanted = expected(checkpoint, layer, hidden)
                    assert torch.allclose(found.double(), wanted, atol=1e-4)
                    assert torch.equal(best, wanted.argmax(-1)) and best.shape == (batch,)


def test_nobody_keeps_what_a_call_returned(layers, checkpoint):
    for compiled in layers:
        outputs = compiled.bind(OfLayer(checkpoint, 0))(torch.randn(2, WIDTH))
        assert [output._use_count() for output in outputs] == [torch.ones(1)._use_count()] * len(outputs)


def test_weights_are_shared_with_whoever_has_them(layers, checkpoint):
    weights = {name: tensor.clone() for name, tensor in checkpoint.items()}
    for compiled in layers:
        call, hidden = compiled.bind(OfLayer(weights, 0)), torch.randn(2, WIDTH)
        before = call(hidden)[0].clone()
        weights["model.layers.0.norm.bias"].add_(1.0)
        assert torch.allclose(call(hidden)[0], before + weights["model.layers.0.scale"], atol=1e-5)


def test_a_weight_that_the_checkpoint_lacks_is_named(layers, checkpoint):
    lacking = {name: tensor for name, tensor in checkpoint.items() if "norm.bias" not in name}
    for compiled in layers:
        with pytest.raises(BackendError, match=r"layer\[batch=1\.\.8\] reads the weight .*norm\.bias"):
            compiled.bind(OfLayer(lacking, 0))


def test_an_input_that_is_written_is_updated_where_it_is_and_never_copied(backend, caches):
    assert backend.limits.in_place
    for compiled in caches:
        call, cache = compiled.bind({}), torch.zeros(ROWS, WIDTH)
        assert cache.nbytes == 64 * 2**20
        where, plain = cache.data_ptr(), {}
        with torch.no_grad():
            for count in (1, 5, 64):
                slots, rows = torch.randperm(ROWS)[:count], torch.randn(count, WIDTH)
                plain |= {int(slot): 3 * row for slot, row in zip(slots, rows, strict=True)}
                wanted = torch.tensor(list(plain)[:count])
                before = _reset_peak()
                total, written = call(cache, slots, rows, wanted)
                grown = _peak() - before
                assert cache.data_ptr() == where
                assert torch.allclose(written, 3 * rows, atol=1e-6)
                assert torch.allclose(total[0], sum(plain[int(slot)] for slot in wanted), atol=1e-4)
                assert grown < cache.nbytes / 4, f"the call took {grown / 2**20:.0f} MiB"
        assert int(cache.abs().sum(dim=1).count_nonzero()) == len(plain)
        assert all(torch.allclose(cache[slot], row) for slot, row in plain.items())


def test_parameters_that_no_checkpoint_names_are_told(backend, layers, caches):
    """Of what was compiled, so that the artifact is for these weights alone; however small they are."""
    assert caches[0].holds_parameters
    if backend.limits.artifacts == "files":
        assert not layers[0].holds_parameters


def test_a_parameter_that_became_a_number_in_the_code_is_told():
    graph = cache_graph()
    exported = export_graph(graph)
    assert embedded_weights(exported, ["scale"], ["scale"]) == set()
    assert embedded_weights(exported, [], []) == {"scale"}


def _reset_peak() -> int:
    """Have the kernel forget the largest resident size of this process, and return the present one."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
