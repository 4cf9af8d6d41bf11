"""``plugins/README.md``: its code runs, its tables are whole, and a backend written to the last page is told so."""

import importlib
import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram, Graph, Input, Limits
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.hooks.specs import HOOKS
from sendnn_pipeline.messages import StageEvent
from tests.backends.test_export import Scored, graph_of
from tests.conftest import clean_environ
from tests.emulators import install as emulators
from tests.hooks import fake
from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.plugins.site import run
from tests.served import FLOAT32, ROOT

PAGE = (ROOT / "plugins" / "README.md").read_text()
BLOCKS = dict(re.findall(r"```\w+\n# (\S+\.\w+)\n(.*?)```", PAGE, flags=re.DOTALL))
PYTHON = Path(sys.executable)
PROJECT = ROOT / "tests" / "emulators" / "jit_backend"
ASK_OPTION = "ask_conf/serve/ask.yaml"
EXAMPLE = [file for file in BLOCKS if file not in (ASK_OPTION, "ask.py", "slowest.py", "mirror.py")]


def precompile(tiny, tmp_path, *words, **variables):
    words = ("pipeline=precompile", *FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path / 'cache'}", *words)
    return run(PYTHON, *words, **variables)


def test_the_example_is_the_package_that_the_tests_run():
    assert {file: (PROJECT / file).read_text() for file in EXAMPLE} == {file: BLOCKS[file] for file in EXAMPLE}
    tracked = {str(file.relative_to(PROJECT)) for file in PROJECT.rglob("*.*") if "__pycache__" not in file.parts}
    assert tracked == {*EXAMPLE, "jit_backend/__init__.py"}


def test_the_example_runs_from_its_options_to_a_warm_engine(tiny, tmp_path, monkeypatch, in_process):
    path = emulators.install("jit_backend", tmp_path / "site")
    for folder in reversed(path.split(os.pathsep)):
        monkeypatch.syspath_prepend(folder)
    variables = {"PYTHONPATH": path, "JIT_COMPILER": "aot_eager"}
    explained = in_process("explain", "backend.compiler", "backend=jit", "model.dtype=float32", **variables)
    assert "backend.compiler = aot_eager" in explained.stdout and "from JIT_COMPILER (env)" in explained.stdout
    words = ("pipeline=precompile", *FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path / 'cache'}", "backend=jit")
    ended = run(PYTHON, *words, "warmup.shapes=[16x2,32x4]", **variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.findall(r"compile \d/2 (\S+) [\d.]+ s, (\w+)", ended.stdout) == [
        ("pool[batch=2,len=16]", "compiled"),
        ("pool[batch=4,len=32]", "compiled"),
    ]
    assert "is warm after" in ended.stdout
    # Nothing is kept: a second start would compile as the first did.
    assert list((tmp_path / "cache").rglob("manifest.json")) == []
    required = in_process(*words, "artifacts.require=true", **variables)
    assert required.returncode == 2 and "backend=jit keeps no artifacts" in required.stderr
    wrong = in_process(*words, "backend.compilers=eager", **variables)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown key backend.compilers")


@pytest.mark.slow
def test_the_example_runs_with_its_own_compiler(tiny, tmp_path):
    variables = {
        "PYTHONPATH": emulators.install("jit_backend", tmp_path / "site"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
    }
    ended = precompile(tiny, tmp_path, "backend=jit", "warmup.shapes=[16x2]", **variables)
    assert ended.returncode == 0 and "is warm after" in ended.stdout, ended.stdout + ended.stderr


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """The page's target, observer and metric, installed."""
    fake.install(tmp_path, "ask", BLOCKS["ask.py"])
    option = tmp_path / ASK_OPTION
    option.parent.mkdir(parents=True)
    option.write_text(BLOCKS[ASK_OPTION])
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_source_and_the_observer_with_an_option(tiny, tmp_path, monkeypatch, whole_run):
    plugins = tmp_path / "site"
    plugins.mkdir()
    monkeypatch.syspath_prepend(plugins)
    for name in ("mirror", "slowest"):
        fake.install(plugins, name, BLOCKS[f"{name}.py"])
    words = ("pipeline=precompile", "backend=eager", *FLOAT32, "warmup.shapes=[16x1]", "observe.slowest.seconds=0")
    words = (*words, f"cache_dir={tmp_path / 'cache'}")
    for path in (tiny, tmp_path / "gone" / tiny.name):
        # The second has nothing but what the first left in the cache.
        ended = whole_run(*words, f"model.path=mirror:{path}")
        assert ended.returncode == 0 and "is warm after" in ended.stdout, ended.stderr
        assert f"{tiny.name}: compile of pool[batch=1,len=16] took" in ended.stderr
    missing = whole_run(*words, "model.path=mirror:/nowhere")
    assert missing.returncode == 1 and "/nowhere has no config.json; name a model's folder" in missing.stderr


def test_the_example_that_binds_weights_by_name():
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "class AcmeProgram" in block
    )
    imports = "from collections.abc import Mapping\nfrom dataclasses import dataclass\nimport torch\n"
    imports += "from sendnn_pipeline.backends.base import CompiledProgram\n"
    imports += (
        "from sendnn_pipeline.backends.export import export_graph\nfrom sendnn_pipeline.errors import BackendError\n"
    )
    exec(imports + code, names := {})
    first, second = (Scored(seed).eval().requires_grad_(False) for seed in (0, 1))
    parameters = {name: f"model.{name}" for name, _ in first.named_parameters()}
    graph = graph_of(first, parameters)
    compiled = names["compile"](None, graph)
    weights = {parameters[name]: tensor for name, tensor in second.named_parameters()}
    torch.testing.assert_close(compiled.bind(weights)(*graph.example), second(*graph.example))
    assert not compiled.holds_parameters
    with pytest.raises(BackendError, match=r"the weights lack model\.head\.bias"):
        compiled.bind({name: tensor for name, tensor in weights.items() if name != "model.head.bias"})
    part = {name: text for name, text in parameters.items() if name != "head.bias"}
    assert names["compile"](None, graph_of(first, part)).holds_parameters


def test_the_serve_target_asks_the_engine(ask, tiny, tmp_path, whole_run):
    words = ("serve=ask", "backend=eager", *FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path / 'cache'}")
    ended = whole_run(*words, "serve.one=hello", "serve.other=hello")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == "1.00 alike"


def test_the_observer_and_its_metric(ask):
    plugins = load_plugins(clean_environ())
    registry, name = CollectorRegistry(), "ask:compiled_programs"
    plugins.collect("register_metrics", registry=lambda _: registry, run=lambda _: None)
    before = registry.get_sample_value(name)
    for program, source in (("one", "compiled"), ("other", "artifact")):
        event = StageEvent("compile", "finished", program, 1, 2, 0.5, source=source)
        plugins.observe("stage_finished", "ask", event=event, run=None)
    assert not plugins.failures
    assert registry.get_sample_value(name) == before + 1


WATCH = """
import sys
import threading
from sendnn_pipeline.hooks import hookimpl

def show(event):
    assert threading.current_thread() is not threading.main_thread()
    program = f" {event.index}/{event.total}{' ' + event.source if event.source else ''}" if event.program else ""
    sys.stderr.write(f"{event.stage} {event.state}{program}\\n")

@hookimpl
def stage_started(event):
    show(event)

@hookimpl
def stage_finished(event):
    show(event)
"""


def test_observers_are_told_in_the_order_of_the_page(tiny, tmp_path):
    fake.install(tmp_path, "watch", WATCH)
    words = ("backend=eager", "warmup.shapes=[16x1,16x2]")
    ended = precompile(tiny, tmp_path, *words, PYTHONPATH=str(tmp_path))
    compiled = [f"compile {state} {index}/2{source}" for index in (1, 2) for state, source in COMPILED]
    runs = [
        f"{stage} {state} {index}/2" for stage in ("trace", "deploy", "warmup") for index in (1, 2) for state in ENDS
    ]
    assert ended.stderr.splitlines() == [
        *("load started", "load finished"),
        *("compile started", *compiled, "compile finished"),
        *("warmup started", *runs, "warmup finished"),
    ]


ENDS = ("started", "finished")
COMPILED = (("started", ""), ("finished", " compiled"))


def test_the_tables_have_every_part():
    parts = [*CompileBackend.__annotations__, *(name for name in vars(CompileBackend) if not name.startswith("_"))]
    parts += [name for kind in (Limits, Graph, Input) for name in (field.name for field in fields(kind))]
    parts += ["function", "bind", "save", *CompiledProgram.__annotations__, *StageEvent.__struct_fields__]
    # Engines give `build`; backends see the `function` that it makes.
    assert not [part for part in parts if not re.search(rf"`{part}\b", PAGE) and part != "build"]
    assert not [hook for hook in HOOKS if hook not in PAGE]
    for field in fields(Limits):
        (default,) = re.findall(rf"^\| `{field.name}` \| (.*?) \|", PAGE, flags=re.MULTILINE)
        assert default == "all three" or eval(default.strip("`")) == field.default, field.name


def test_public_modules_are_there():
    rows = PAGE.partition("| modules | for |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    modules = [module for row in rows for module in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    assert len(modules) > 20
    for module in modules:
        importlib.import_module(f"sendnn_pipeline.{module}")


# A backend as the page of 0.1 had it.
OLD = """
from dataclasses import dataclass
from pathlib import Path
from sendnn_pipeline.backends.base import {imported}
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.hooks import hookimpl

@dataclass(frozen=True, kw_only=True)
class AcmeConfig(BackendConfig):
    cores: int = 4

class AcmeBackend{bases}:
    name = "acme"

    def limits(self, config):
        return Limits(token_multiple=8, streams=True)

    def prepare(self, run, environ):
        return {{}}

    def compile(self, graph, run):
        return graph.function

    def portable(self, run):
        return True

    def save(self, compiled, folder):
        pass

    def load(self, folder, weights, run):
        pass

    def embeds_weights(self, run):
        return False

    def fingerprint(self, run):
        return {{"acme": "1"}}

@hookimpl
def config_paths():
    return Path(__file__).parent / "acme_conf"

@hookimpl
def register_schemas(store):
    store("backend", "acme", AcmeConfig)

@hookimpl
def register_compile_backends(register):
    register("acme", {registered})
"""
WRITTEN_FOR = "error: compile backend acme of plugin acme is written for the contract of 0.1: "
MOVED = (
    "limits is now an attribute, a Limits, portable is now limits.artifacts, embeds_weights is now "
    "limits.embeds_weights, save is now CompiledProgram.save, load is now open"
)
SEE = "see `What changed` in plugins/README.md"
OLD_ONES = {
    "the page's": ({}, 1, f"{WRITTEN_FOR}{MOVED}; {SEE}"),
    "one that takes options": ({"registered": "lambda options: AcmeBackend()"}, 1, f"{WRITTEN_FOR}{MOVED}; {SEE}"),
    "one that a function makes": (
        {"registered": "lambda: AcmeBackend()"},
        1,
        "error: compile backend acme of plugin acme failed to be made of its options: TypeError: "
        f"register_compile_backends.<locals>.<lambda>() takes 0 positional arguments but 1 was given; {SEE}",
    ),
    "one that keeps nothing": (
        {"imported": "Limits, NotPortable", "bases": "(NotPortable)"},
        2,
        "error: unknown option backend=acme; known: auto, eager, inductor, sendnn, sendnn_compile_only; "
        "plugin acme failed (ImportError: "
        f"NotPortable is of the contract of 0.1; {SEE}); see `python -m sendnn_pipeline plugins`",
    ),
}


@pytest.mark.parametrize("case", OLD_ONES)
def test_a_backend_written_to_the_last_page_is_told_what_changed(case, tiny, site, in_process):  # noqa: F811
    changes, code, line = OLD_ONES[case]
    parts = {"imported": "Limits", "bases": "", "registered": "AcmeBackend"} | changes
    fake.install(site, "acme", OLD.format(**parts))
    for file, text in {
        "backend/acme.yaml": "# The Acme card.\ndefaults:\n  - acme_schema\n  - _self_\nname: acme\n",
        "env/acme.yaml": 'ACME_CORES:\n  key: backend.cores\n  decoder: int\n  default: "4"\n  doc: Cores.\n',
    }.items():
        option = site / "acme_conf" / file
        option.parent.mkdir(parents=True)
        option.write_text(text)
    ended = in_process("pipeline=precompile", *FLOAT32, f"model.path={tiny}", "backend=acme", PYTHONPATH=str(site))
    assert (ended.returncode, ended.stderr) == (code, line + "\n")
    if code == 1:
        assert "ACME_CORES has a decoder, which the type of backend.cores decides now" in ended.stdout
