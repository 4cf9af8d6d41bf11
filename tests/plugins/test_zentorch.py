"""``plugins/zentorch`` for real: installed both ways, what it computes, in which process, and what it refuses."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.plugins.site import python_with, run, start
from tests.served import FLOAT32, ROOT

HERE = Path("/proc/cpuinfo")

CPUS = {
    "x86 without AVX2": ("flags\t\t: fpu sse4_2 avx fma\n", "avx2"),
    "x86 without either": ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 avx\n", "avx2 and fma"),
    "avx2 in the middle of other words": ("flags\t\t: myavx2 avx2ish fma4 fma\n", "avx2"),
    "arm": ("processor\t: 0\nFeatures\t: fp asimd avx2 fma\n", "avx2 and fma"),
    "AMD without AVX-512": ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 fma\n", ""),
    "Intel": ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 fma avx512f\n", ""),
}
MISSING = """
import sys
from pathlib import Path
from sendnn_zentorch.cpu import missing_features
for file in sys.argv[1:]:
    print(missing_features(Path(file)))
"""
ON_A_CPU = """
import runpy, sys
from pathlib import Path
from sendnn_zentorch import plugin
plugin.CPUINFO = Path(sys.argv.pop(1))
runpy.run_module("sendnn_pipeline", run_name="__main__", alter_sys=True)
"""
WITHOUT_ZENTORCH = """
import runpy, sys
sys.modules["zentorch"] = None
runpy.run_module("sendnn_pipeline", run_name="__main__", alter_sys=True)
"""
# A step that writes into its cache, compiled, saved and opened, over weights other than those it was compiled with.
CACHED = """
import sys
from pathlib import Path
import torch
from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.programs.program import Dim, Program
from sendnn_pipeline.errors import BackendError
from sendnn_zentorch.backend import ZentorchBackend, ZentorchConfig
from sendnn_zentorch.program import compile_program

class Cached(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.key, self.out = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.register_buffer("positions", torch.arange(8.0), persistent=False)

    def forward(self, values, slots, cache):
        cache.index_copy_(0, slots, self.key(values))
        return self.out(cache[:4]) + self.positions, values > 0

def no_function():
    raise AssertionError("the model is loaded")

torch.manual_seed(0)
module, other = (Cached().eval().requires_grad_(False) for _ in range(2))
names = {name: f"model.{name}" for name, _ in module.named_parameters()}
values, slots = torch.randn(2, 8), torch.tensor([1, 3])
inputs = (Input("values", values), Input("slots", slots), Input("cache", torch.zeros(16, 8), written=True))
about = (Program("step", (Dim("slots", 16),)), inputs, ("out", "positive"))
graph = Graph(about[0], lambda: module, *about[1:], parameters=lambda: names)
opened = Graph(about[0], no_function, *about[1:], parameters=no_function)
backend = ZentorchBackend(ZentorchConfig(name="zentorch", freezing=False))
folder = Path(sys.argv[1])
program = backend.compile(graph)
program.save(folder)
assert not program.holds_parameters and graph.dtype not in backend.limits.embeds_weights
weights = {names[name]: tensor for name, tensor in other.named_parameters()}
for call in (program.bind(weights), backend.open(folder, opened).bind(weights)):
    cache, expected = torch.zeros(16, 8), torch.zeros(16, 8)
    with torch.no_grad():
        answer = call(values, slots, cache)
        torch.testing.assert_close(answer, other(values, slots, expected))
    torch.testing.assert_close(cache, expected)
print("alike")

# And one that zentorch has nothing for.
class Doubled(torch.nn.Module):
    def forward(self, values):
        return (values * 2.0,)

try:
    graph = Graph(Program("doubled", ()), Doubled, (Input("values", torch.randn(4, 8)),), ("doubles",))
    print(compile_program(graph, freezing=False))
except BackendError as error:
    print(error)
"""

FROZEN = {"SENDNN_ZENTORCH_FREEZING": "1"}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with the plugin, from its wheel."""
    return python_with(tmp_path_factory.mktemp("zentorch") / "site", "zentorch", how="wheel")


@pytest.fixture(scope="module")
def computes_here(python):
    """Skip where this CPU is one that the plugin refuses; the tests of the refusal run there, too."""
    missing = run(python, str(HERE), code=MISSING).stdout.strip()
    if missing:
        pytest.skip(f"zentorch cannot compute on this CPU, which lacks {missing}")


@pytest.fixture(scope="module")
def computed(python, computes_here, tiny, texts, tmp_path_factory):
    """A folder with vectors of the same texts by eager and zentorch, made at once, and what zentorch's run printed.

    The weights are part of zentorch's code.
    """
    folder = tmp_path_factory.mktemp("computed")
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:60]))
    (folder / "cpuinfo").write_text(CPUS["x86 without AVX2"][0])
    started = [
        start(python, *batch(folder, tiny, "zentorch"), **FROZEN),
        start(python, str(folder / "cpuinfo"), *batch(folder, tiny, "eager"), code=ON_A_CPU),
    ]
    outputs = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    return folder, outputs[0][0]


def batch(folder, model, backend, name=None):
    """Return the words of a run that embeds the texts of ``folder``."""
    return (
        *FLOAT32,
        f"model.path={model}",
        f"backend={backend}",
        "warmup.shapes=[8..64x1..8]",
        f"artifacts.dir={folder / 'artifacts'}",
        "serve=batch",
        "serve.truncate=true",
        f"serve.input={folder / 'texts.jsonl'}",
        f"serve.output={folder / (name or backend)}.npy",
    )


def refused(python, *words, **options):
    """Return the exit code, and the one line, of a run that does not start."""
    ended = run(python, *words, **options)
    (line,) = ended.stderr.splitlines()
    return ended.returncode, line


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_it_is_listed_as_loaded(how, python, tmp_path):
    chosen = python if how == "wheel" else python_with(tmp_path / "site", "zentorch", how=how)
    listed = run(chosen, "plugins").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("zentorch ")]
    assert line.split()[1] == "loaded", listed
    where = run(chosen, code="import sendnn_zentorch; print(sendnn_zentorch.__file__)").stdout
    assert (str(ROOT) in where) == (how == "editable")


@pytest.mark.slow
def test_vectors_are_those_of_eager(computed):
    folder, _ = computed
    eager, zentorch = (np.load(folder / f"{name}.npy").astype(float) for name in ("eager", "zentorch"))
    assert eager.shape == zentorch.shape == (60, 32)
    cosines = (eager * zentorch).sum(1) / np.linalg.norm(eager, axis=1) / np.linalg.norm(zentorch, axis=1)
    assert cosines.min() >= 0.99999
    assert np.abs(np.corrcoef(eager)).min() < 0.99, "texts whose vectors are all alike prove nothing"


@pytest.mark.slow
def test_the_code_calls_zentorch_for_every_linear_layer(computed):
    folder, _ = computed
    (package,) = folder.glob("artifacts/**/program.pt2")
    with zipfile.ZipFile(package) as archive:
        code = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".cpp"))
    called = re.findall(r"aoti_torch_cpu_(\w*(?:mm|linear)\w*)\(", code)
    # Query, key and value are one product where the weights are part of the code.
    assert len(called) == 2 * 4, called
    assert all(name.startswith("zentorch_linear_unary") for name in called), called


@pytest.mark.slow
def test_another_process_opens_the_artifact_without_a_compiler(python, computed, tiny, tmp_path):
    folder, first = computed
    words = batch(folder, tiny, "zentorch", "again")
    ended = run(python, *words, CXX="none", PATH=str(tmp_path), **FROZEN)
    assert ended.returncode == 0, ended.stderr
    assert ", compiled (" in first.split("compile 1/")[1].splitlines()[0]
    assert ended.stdout.split("compile 1/")[1].splitlines()[0].endswith("artifact")
    # Not bit for bit: which texts share a step is chosen by measured times, and sizes differ within rounding.
    assert np.abs(np.load(folder / "again.npy") - np.load(folder / "zentorch.npy")).max() < 1e-6


@pytest.mark.slow
def test_a_write_goes_into_the_input_and_weights_are_those_it_is_bound_to(python, computes_here, tmp_path):
    """And what zentorch has nothing for is an error."""
    ended = run(python, str(tmp_path), code=CACHED)
    alike, refused = ended.stdout.splitlines()
    assert alike == "alike", ended.stderr
    assert refused.startswith("zentorch cannot compile doubled")
    assert refused.endswith("zentorch replaced nothing in it; backend=inductor does without zentorch")


def test_a_variable_freezes(python):
    words = ("explain", "backend.freezing", "backend=zentorch", "model.dtype=float32")
    explained = run(python, *words, **FROZEN).stdout
    assert "backend.freezing = true" in explained and "SENDNN_ZENTORCH_FREEZING" in explained


def test_which_cpus_lack_what(python, tmp_path):
    files = [tmp_path / str(number) for number, _ in enumerate(CPUS)]
    for file, (text, _) in zip(files, CPUS.values(), strict=True):
        file.write_text(text)
    printed = run(python, *map(str, files), str(tmp_path / "none"), code=MISSING).stdout.splitlines()
    assert dict(zip([*CPUS, "none"], printed, strict=True)) == {
        **{name: missing for name, (_, missing) in CPUS.items()},
        "none": "avx2 and fma",
    }


def test_a_cpu_without_avx2_is_refused_before_anything_starts(python, tiny, tmp_path):
    # That other backends run there is in `computed`: its eager vectors are made on this CPU.
    (tmp_path / "cpuinfo").write_text(CPUS["x86 without AVX2"][0])
    words = ("backend=zentorch", *FLOAT32, f"model.path={tiny}", "warmup.shapes=[8x1]")
    code, line = refused(python, str(tmp_path / "cpuinfo"), *words, code=ON_A_CPU)
    assert code == 2
    assert line == (
        "error: backend=zentorch needs an x86-64 CPU with AVX2 and FMA; this one lacks avx2: use backend=inductor"
    )


def test_a_missing_library_is_one_line(python, tiny):
    words = ("backend=zentorch", *FLOAT32, f"model.path={tiny}", "warmup.shapes=[8x1]")
    code, line = refused(python, *words, code=WITHOUT_ZENTORCH)
    assert code == 1
    assert line == "error: backend=zentorch: zentorch is not installed; pip install zentorch==2.13.0.1"


def test_a_library_for_another_torch_is_one_line(python, tiny, tmp_path):
    metadata = tmp_path / "torch-2.12.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.1\n")
    words = ("backend=zentorch", *FLOAT32, f"model.path={tiny}", "warmup.shapes=[8x1]")
    code, line = refused(python, *words, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert "was built for torch 2.13.0+cpu, here is torch 2.12.1; install the zentorch whose version begins" in line
