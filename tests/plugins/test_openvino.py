"""The plugin of ``plugins/openvino``, installed as users install it, and its backend class."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sendnn_pipeline import Embedder
from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.program import Dim, Program
from tests.conftest import resolved_run
from tests.plugins.site import python_with, run
from tests.served import FLOAT32, ROOT

sys.path.append(str(ROOT / "plugins" / "openvino"))

from sendnn_openvino.backend import OpenVINOBackend
from sendnn_openvino.config import OpenVINOConfig
from sendnn_openvino.signal_stack import signal_stack

ALLOWED = len(os.sched_getaffinity(0))

WITHOUT_OPENVINO = """
import runpy, sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "openvino" else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *context):
        return (found for found in super().find_distributions(*context) if found.name != "openvino")

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
runpy.run_module("sendnn_pipeline", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An interpreter with the plugin from its wheel."""
    return python_with(tmp_path_factory.mktemp("wheel") / "venv", "openvino", how="wheel")


def backend(**options) -> OpenVINOBackend:
    """Return the backend, made of its options as the registry makes it."""
    return OpenVINOBackend(OpenVINOConfig(name="openvino", **options))


class Calls(torch.nn.Module):
    """A function of an input and of a parameter of its own, as a module."""

    def __init__(self, function, scale: float = 1.0) -> None:
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.full((64, 64), scale))

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the function with input and parameter."""
        returned = self.function(values, self.weight)
        return returned if isinstance(returned, tuple) else (returned,)


def graph_of(function, *outputs: str, rows: int = 4, scale: float = 1.0, written: bool = False) -> Graph:
    """Return ``function`` of a ``rows`` x 64 input and a 64 x 64 parameter as a graph."""
    inputs = (Input("values", torch.rand(rows, 64), {0: "rows"}, written),)
    module = Calls(function, scale).eval()
    return Graph(Program("calls", (Dim("rows", rows),)), lambda: module, inputs, outputs or ("result",))


def without_function(graph: Graph) -> Graph:
    """Return a graph whose function nobody may ask for, as one that is opened."""

    def build():
        raise AssertionError("the model is loaded")

    return Graph(graph.program, build, graph.inputs, graph.outputs, parameters=build)


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_it_is_loaded_however_it_was_installed(how, request, tmp_path):
    wheel = how == "wheel"
    installed = request.getfixturevalue("python") if wheel else python_with(tmp_path / "venv", "openvino", how=how)
    listed = run(installed, "plugins", COLUMNS="200")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("openvino ")]
    assert "loaded" in line and "sendnn-pipeline-openvino 0.2.0" in line


def test_vectors_are_eagers_and_a_second_start_only_opens_artifacts(python, minilm, texts, tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:16]))
    run_words = (*FLOAT32, f"model.path={minilm}", "warmup.shapes=[64x4]")
    words = [*run_words, "serve=batch", f"serve.input={tmp_path / 'texts.jsonl'}", "serve.truncate=true"]
    words += [f"cache_dir={tmp_path / 'cache'}"]
    home = tmp_path / "home"
    home.mkdir()
    vectors, printed, imported = {}, {}, {}
    with Embedder(*run_words, "backend=eager") as embedder:
        eager = embedder.embed(texts[:16], truncate_prompt_tokens=-1)
    for name in ("first", "second"):
        output = tmp_path / f"{name}.npy"
        # Every import of every process of the run is a line on stderr.
        variables = {"HOME": str(home), "CI": "false", "PYTHONPROFILEIMPORTTIME": "1"}
        ended = run(python, *words, "backend=openvino", f"serve.output={output}", **variables)
        assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
        vectors[name], printed[name] = np.load(output), ended.stdout
        imported[name] = set(re.findall(r"^import time:.*\| +([\w.]+)$", ended.stderr, flags=re.MULTILINE))
    for name in ("first", "second"):
        assert vectors[name].shape == (16, 384)
        assert (vectors[name] * eager).sum(1).min() >= 0.99999
    assert programs_of(printed["first"]) == ["compiled"]
    assert programs_of(printed["second"]) == ["artifact"]
    assert {"openvino", "torch._dynamo", "transformers"} <= imported["first"]
    assert imported["second"] & {"openvino", "torch._dynamo", "transformers"} == {"openvino"}
    # `import openvino` writes a client id there and sends usage data, if it is let.
    assert not (home / "intel").exists() and "openvino_telemetry.main" not in imported["first"]


def programs_of(printed: str) -> list[str]:
    """Return where a start has each Program from."""
    return re.findall(r"^  compile \d/\d pool\S+ [\d.]+ s, (\w+)", printed, flags=re.MULTILINE)


def test_programs_of_one_process_keep_apart_and_survive_a_round_trip(tmp_path):
    # Where it is exchanged, as on CPUs with AMX, the first signal after some Programs have gone ends the process.
    before = signal_stack().address
    inputs, expected, compiled, opened = {}, {}, {}, {}
    for scale in (0.5, 1.0, 2.0, 3.0):
        graph = graph_of(lambda x, weight: (x @ weight / 64 + 1, x > weight[0, 0] / 4), "result", "larger", scale=scale)
        folder = tmp_path / str(scale)
        folder.mkdir()
        with torch.no_grad():
            inputs[scale], expected[scale] = graph.example, graph.function(*graph.example)
        program = backend().compile(graph)
        program.save(folder)
        assert program.holds_parameters and "float32" in backend().limits.embeds_weights
        compiled[scale] = program.bind({})
        opened[scale] = backend().open(folder, without_function(graph)).bind({})
    del graph, program
    with torch.no_grad():
        for calls in (compiled, opened, compiled):
            answers = {scale: call(*inputs[scale]) for scale, call in calls.items()}
            for call in calls.values():
                call(torch.zeros(4, 64))  # which writes over no earlier answer
            for scale, answer in answers.items():
                assert isinstance(answer, tuple)
                torch.testing.assert_close(answer, expected[scale])
    assert signal_stack().address == before


def test_an_artifact_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "program.blob").write_bytes(b"short")
    with pytest.raises(BackendError) as caught:
        backend().open(tmp_path, without_function(graph_of(lambda x, weight: x @ weight)))
    assert "Cannot import compiled blob" in str(caught.value) and str(tmp_path) in caught.value.message


def test_numbers_that_are_not_finite_are_seen():
    # An optimizer that takes `x == x` for true would not see them.
    graph = graph_of(lambda x, weight: (x @ weight, torch.isfinite(x @ weight).all(dim=1)), "vectors", "finite")
    values = torch.rand(4, 64)
    values[0, 5], values[2, 6], values[3, 7] = float("nan"), float("inf"), -float("inf")
    _, finite = backend().compile(graph).bind({})(values)
    assert finite.dtype == torch.bool and finite.tolist() == [False, True, False, False]


def test_a_write_into_a_view_is_not_lost():
    def function(x, weight):
        row = torch.zeros(64)
        row[3] = 1
        return x @ weight + row

    graph = graph_of(function)
    torch.testing.assert_close(
        backend().compile(graph).bind({})(*graph.example), graph.function(*graph.example), check_stride=False
    )


def test_a_write_into_an_input_is_refused():
    assert not backend().limits.in_place
    with pytest.raises(BackendError) as caught:
        backend().compile(graph_of(lambda x, weight: x.add_(weight[0]) @ weight, written=True))
    assert str(caught.value) == (
        "calls[rows=4] writes into values, which OpenVINO would leave as it is; use backend=inductor"
    )


UNSUPPORTED = {
    # What makes the library's own backend fall back, by where it would.
    "the graph cannot be traced": (lambda x, weight: x * int((x @ weight > 0).sum().item()), "cannot be traced"),
    "tracing fails, so inductor": (
        lambda x, weight: torch.quantize_per_tensor(x @ weight, 0.1, 0, torch.quint8).dequantize() + 1,
        "aten.quantize_per_tensor.default",
    ),
    "a partition fails, so PyTorch": (
        lambda x, weight: x @ weight + torch.linalg.vector_norm(x, ord=3),
        "aten.linalg_vector_norm.default",
    ),
    "not in a partition, so PyTorch": (lambda x, weight: (x @ weight).median(0)[0] + x, "aten.median.dim"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_openvino_cannot_do_is_one_line_that_names_it(case):
    function, named = UNSUPPORTED[case]
    with pytest.raises(BackendError) as caught:
        backend().compile(graph_of(function))
    line = str(caught.value)
    assert named in line and "calls[rows=4]" in line and "\n" not in line and "backend=" in caught.value.hint


def test_a_call_that_fails_is_an_error_and_not_pytorch():
    call = backend().compile(graph_of(lambda x, weight: x @ weight)).bind({})
    with pytest.raises(BackendError, match=r"OpenVINO cannot run calls\[rows=4\]: .*shape=.4,64.* incompatible"):
        call(torch.rand(4, 32))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_follow_the_run(threads):
    graph = graph_of(lambda x, weight: (x @ weight @ weight @ weight).softmax(0), rows=20_000, scale=0.01)
    before, expected = torch.get_num_threads(), min(threads, ALLOWED)
    torch.set_num_threads(threads)
    try:
        call = backend().compile(graph).bind({})
    finally:
        torch.set_num_threads(before)
    started, computing = cpu_seconds(), 0
    for calls in range(400):
        call(*graph.example)
        spent = {thread: seconds - started.get(thread, 0) for thread, seconds in cpu_seconds().items()}
        computing = sum(seconds > 0.01 for seconds in spent.values())
        # On a busy machine the second thread may be late; more than there should be have 20 calls to show.
        if calls >= 20 and computing >= expected:
            break
    assert computing == expected


def cpu_seconds() -> dict[str, float]:
    """Return what each thread of this process has computed."""
    tasks = list(Path("/proc/self/task").iterdir())
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def test_without_the_library_one_line_says_how_to_get_it(python, minilm):
    words = ["backend=openvino", *FLOAT32, f"model.path={minilm}", "pipeline=precompile", "warmup.shapes=[16x1]"]
    ended = run(python, *words, code=WITHOUT_OPENVINO)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: backend=openvino needs the package openvino, which is not installed; "
        "pip install 'openvino>=2026.4,<2027'\n"
    )


WRONG = {
    "option": (
        ["backend.pin_threads=often"],
        {},
        "error: backend.pin_threads=often must be bool (set by backend.pin_threads=often)\n",
    ),
    "variable": (
        [],
        {"SENDNN_OPENVINO_PIN_THREADS": "often"},
        "error: SENDNN_OPENVINO_PIN_THREADS='often' sets backend.pin_threads and must be 0, 1, true or false; "
        "correct or unset it\n",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_one_line(python, minilm, case):
    words, variables, line = WRONG[case]
    about = ["backend=openvino", *FLOAT32, f"model.path={minilm}", "pipeline=precompile"]
    ended = run(python, *about, *words, **variables)
    assert (ended.returncode, ended.stderr) == (2, line)


@pytest.mark.skipif(ALLOWED < 2, reason="there is no part of one CPU")
def test_threads_are_pinned_where_asked_for_and_not_on_a_part_of_the_cpus(minilm):
    from sendnn_openvino.plugin import check_config

    plain = resolved_run([*FLOAT32, f"model.path={minilm}", "backend=eager", "warmup.shapes=[16x1]"]).run

    def with_openvino(num_cpus: int, **options):
        process = replace(plain.config.process, num_cpus=num_cpus)
        config = replace(plain.config, backend=OpenVINOConfig(name="openvino", **options), process=process)
        return replace(plain, config=config)

    for pinned in (False, True):
        program = backend(pin_threads=pinned).compile(graph_of(lambda x, weight: x @ weight))
        # What OpenVINO took, which may be other than what it was told.
        assert program.compiled.get_property("ENABLE_CPU_PINNING") is pinned
        assert program.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert [check_config(with_openvino(count, pin_threads=True)) for count in (0, ALLOWED)] == [[], []]
    assert check_config(with_openvino(1)) == []
    (problem,) = check_config(with_openvino(1, pin_threads=True))
    assert problem.startswith("backend.pin_threads=true") and "taskset" in problem
