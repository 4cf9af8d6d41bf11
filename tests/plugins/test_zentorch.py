"""``plugins/zentorch`` for real: installed both ways, what it computes, in which process, and what it refuses."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.plugins.site import python_with
from tests.served import ROOT, environment

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
NO_LINEAR_LAYER = """
import torch
from sendnn_pipeline.backends.base import Graph
from sendnn_pipeline.errors import BackendError
from sendnn_zentorch.program import compile_program

class Doubled(torch.nn.Module):
    def forward(self, values):
        return values * 2.0

with torch.no_grad():
    try:
        print(compile_program(Graph("doubled", Doubled(), (torch.randn(4, 8),), [{}], {}), freezing=False))
    except BackendError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with the plugin, from its wheel."""
    return python_with(tmp_path_factory.mktemp("zentorch") / "site", "zentorch", how="wheel")


@pytest.fixture(scope="module")
def computes_here(python):
    """Skip where this CPU is one that the plugin refuses; the tests of the refusal run there, too."""
    missing = run(python, "-c", MISSING, str(HERE)).stdout.strip()
    if missing:
        pytest.skip(f"zentorch cannot compute on this CPU, which lacks {missing}")


@pytest.fixture(scope="module")
def computed(python, computes_here, tiny, texts, tmp_path_factory):
    """A folder with vectors of the same texts by eager and zentorch, and what was printed, all made at once."""
    folder = tmp_path_factory.mktemp("computed")
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:60]))
    (folder / "cpuinfo").write_text(CPUS["x86 without AVX2"][0])
    started = [
        start(python, "-m", "sendnn_pipeline", *batch(folder, tiny, "zentorch")),
        start(python, "-c", ON_A_CPU, str(folder / "cpuinfo"), *batch(folder, tiny, "eager")),
        start(python, "-c", NO_LINEAR_LAYER),
    ]
    outputs = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    return folder, outputs[0][0], outputs[2][0]


def batch(folder, model, backend, name=None):
    """Return the words of a run that embeds the texts of ``folder``."""
    return (
        "model=local",
        f"model.path={model}",
        f"backend={backend}",
        "backend.simple=eager",
        "warmup.shapes=[8..64x1..8]",
        f"artifacts.dir={folder / 'artifacts'}",
        "serve=batch",
        "serve.truncate=true",
        f"serve.input={folder / 'texts.jsonl'}",
        f"serve.output={folder / (name or backend)}.npy",
    )


def start(python, *words, **variables):
    """Start the interpreter."""
    return subprocess.Popen(
        [str(python), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**variables),
    )


def run(python, *words, **variables):
    """Run the interpreter to its end."""
    process = start(python, *words, **variables)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def refused(python, *words, **variables):
    """Return the exit code, and the one line, of a run that does not start."""
    ended = run(python, *words, **variables)
    (line,) = ended.stderr.splitlines()
    return ended.returncode, line


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_it_is_listed_as_loaded(how, python, tmp_path):
    chosen = python if how == "wheel" else python_with(tmp_path / "site", "zentorch", how=how)
    listed = run(chosen, "-m", "sendnn_pipeline", "plugins").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("zentorch ")]
    assert line.split()[1] == "loaded", listed
    where = run(chosen, "-c", "import sendnn_zentorch; print(sendnn_zentorch.__file__)").stdout
    assert (str(ROOT) in where) == (how == "editable")


@pytest.mark.slow
def test_vectors_are_those_of_eager(computed):
    folder, _, _ = computed
    eager, zentorch = (np.load(folder / f"{name}.npy").astype(float) for name in ("eager", "zentorch"))
    assert eager.shape == zentorch.shape == (60, 32)
    cosines = (eager * zentorch).sum(1) / np.linalg.norm(eager, axis=1) / np.linalg.norm(zentorch, axis=1)
    assert cosines.min() >= 0.99999
    assert np.abs(np.corrcoef(eager)).min() < 0.99, "texts whose vectors are all alike prove nothing"


@pytest.mark.slow
def test_the_code_calls_zentorch_for_every_linear_layer(computed):
    folder, _, _ = computed
    (package,) = folder.glob("artifacts/**/program.pt2")
    with zipfile.ZipFile(package) as archive:
        code = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".cpp"))
    called = re.findall(r"aoti_torch_cpu_(\w*(?:mm|linear)\w*)\(", code)
    assert len(called) == 2 * 6, called
    assert all(name.startswith("zentorch_linear_unary") for name in called), called


@pytest.mark.slow
def test_another_process_opens_the_artifact_without_a_compiler(python, computed, tiny, tmp_path):
    folder, first, _ = computed
    words = batch(folder, tiny, "zentorch", "again")
    ended = run(python, "-m", "sendnn_pipeline", *words, CXX="none", PATH=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "artifact" not in first.split("compile 1/")[1].splitlines()[0]
    assert ended.stdout.split("compile 1/")[1].splitlines()[0].endswith("artifact")
    # Not bit for bit: what texts share a step is chosen by measured times, and sizes differ within rounding.
    assert np.abs(np.load(folder / "again.npy") - np.load(folder / "zentorch.npy")).max() < 1e-6


@pytest.mark.slow
def test_what_zentorch_has_nothing_for_is_an_error(computed):
    _, _, printed = computed
    assert printed.startswith("zentorch cannot compile doubled")
    assert printed.endswith("zentorch replaced nothing in it; backend=inductor does without zentorch\n")


def test_a_variable_freezes(python):
    words = ("explain", "backend.freezing", "backend=zentorch")
    told = run(python, "-m", "sendnn_pipeline", *words, SENDNN_ZENTORCH_FREEZING="1").stdout
    assert "backend.freezing = true" in told and "SENDNN_ZENTORCH_FREEZING" in told


def test_which_cpus_lack_what(python, tmp_path):
    files = [tmp_path / str(number) for number, _ in enumerate(CPUS)]
    for file, (text, _) in zip(files, CPUS.values(), strict=True):
        file.write_text(text)
    said = run(python, "-c", MISSING, *map(str, files), str(tmp_path / "none")).stdout.splitlines()
    assert dict(zip([*CPUS, "none"], said, strict=True)) == {
        **{name: missing for name, (_, missing) in CPUS.items()},
        "none": "avx2 and fma",
    }


def test_a_cpu_without_avx2_is_refused_before_anything_starts(python, tiny, tmp_path):
    # That other backends run there is in `computed`: its eager vectors are made on this CPU.
    (tmp_path / "cpuinfo").write_text(CPUS["x86 without AVX2"][0])
    words = ("backend=zentorch", "model=local", f"model.path={tiny}", "warmup.shapes=[8x1]")
    code, line = refused(python, "-c", ON_A_CPU, str(tmp_path / "cpuinfo"), *words)
    assert code == 2
    assert line == (
        "error: backend=zentorch needs an x86-64 CPU with AVX2 and FMA; this one lacks avx2: use backend=inductor"
    )


def test_a_missing_library_is_one_line(python, tiny):
    code, line = refused(
        python, "-c", WITHOUT_ZENTORCH, "backend=zentorch", "model=local", f"model.path={tiny}", "warmup.shapes=[8x1]"
    )
    assert code == 1
    assert line == "error: backend=zentorch: zentorch is not installed; pip install zentorch==2.13.0.1"


def test_a_library_for_another_torch_is_one_line(python, tiny, tmp_path):
    metadata = tmp_path / "torch-2.12.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.1\n")
    words = ("backend=zentorch", "model=local", f"model.path={tiny}", "warmup.shapes=[8x1]")
    code, line = refused(python, "-m", "sendnn_pipeline", *words, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert "was built for torch 2.13.0+cpu, here is torch 2.12.1; install the zentorch whose version begins" in line
