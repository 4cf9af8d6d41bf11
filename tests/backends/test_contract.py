"""Backends of plugins that break their contract: one line that names the plugin and what is wrong."""

from pathlib import Path

import pytest
import torch

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram, Graph, Input, Limits
from sendnn_pipeline.backends.contract import check_compiled, check_graph
from sendnn_pipeline.backends.create import create_backend
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError, PluginError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.programs.program import Dim, Program
from tests.conftest import clean_environ
from tests.hooks.fake import install

HEAD = """
from sendnn_pipeline.backends.base import CompileBackend, Limits
from sendnn_pipeline.hooks import hookimpl

@hookimpl
def register_compile_backends(register):
    register("acme", AcmeBackend)

class AcmeBackend(CompileBackend):
    def __init__(self, options):
        self.options = options

    def compile(self, graph):
        return graph.function

"""
NAME, LIMITS, FINGERPRINT = "    name = 'acme'\n", "    limits = Limits()\n", "    def fingerprint(self): return {}\n"
WHO = "compile backend acme of plugin acme"
BROKEN = {
    "no name": (LIMITS + FINGERPRINT, f"{WHO} lacks name; see CompileBackend in backends/base.py"),
    "no fingerprint": (
        NAME + LIMITS,
        f"{WHO} failed to be made of its options: TypeError: Can't instantiate abstract class",
    ),
    "limits that are none": (
        NAME + FINGERPRINT + "    limits = {'ranges': True}\n",
        f"{WHO} has limits that are not a Limits, but {{'ranges': True}}",
    ),
    "artifacts that it cannot open": (
        NAME + FINGERPRINT + "    limits = Limits(artifacts='files')\n",
        f"{WHO} has limits.artifacts=files and no open; see CompileBackend.open",
    ),
    "limits that raise": (
        NAME + FINGERPRINT + "    @property\n    def limits(self): raise OSError('no card')\n",
        f"{WHO} failed to tell its limits: OSError: no card",
    ),
    "limits of another type": (
        NAME + FINGERPRINT + "    limits = Limits(token_multiple='x')\n",
        f"{WHO} has limits of another type: Expected `int`, got `str` - at `$.token_multiple`; see Limits",
    ),
    "a dtype that is none": (
        NAME + FINGERPRINT + "    limits = Limits(dtypes=('float8',))\n",
        f"{WHO} has limits with the dtype float8; see Limits in backends/base.py",
    ),
    "no dtypes": (NAME + FINGERPRINT + "    limits = Limits(dtypes=())\n", f"{WHO} has limits with no dtypes"),
    "a constructor that ends the process": (
        NAME + LIMITS + FINGERPRINT + "    def __init__(self, options): raise SystemExit(3)\n",
        f"{WHO} failed to be made of its options: SystemExit: 3",
    ),
    "a constructor that raises": (
        NAME + LIMITS + FINGERPRINT + "    def __init__(self, options): raise OSError('no card')\n",
        f"{WHO} failed to be made of its options: OSError: no card",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_backend_that_lacks_a_part(case, tmp_path, monkeypatch):
    body, line = BROKEN[case]
    install(tmp_path, "acme", HEAD + body, distribution=f"acme-{case.replace(' ', '-')}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as caught:
        create_backend(load_plugins(clean_environ()), BackendConfig(name="acme"))
    assert str(caught.value).startswith(line)


def test_a_backend_that_is_whole(tmp_path, monkeypatch):
    install(tmp_path, "acme", HEAD + NAME + LIMITS + FINGERPRINT, distribution="acme-whole")
    monkeypatch.syspath_prepend(tmp_path)
    options = BackendConfig(name="acme")
    backend = create_backend(load_plugins(clean_environ()), options)
    assert backend.backend.options is options and backend.prepare(tmp_path, {}) == {}


METHODS = {
    "prepare(self, cache_dir, environ)": (lambda b: b.prepare(Path(), {}), "prepare"),
    "compile(self, graph)": (lambda b: b.compile(graph_of("out")), "compile step[batch=2]"),
    "open(self, folder, graph)": (lambda b: b.open(Path("/x/y"), graph_of("out")), "open y"),
    "tracing(self)": (lambda b: b.tracing().__enter__(), "trace"),
    "seal(self)": (lambda b: b.seal(), "seal"),
    "fingerprint(self)": (lambda b: b.fingerprint(), "tell its fingerprint"),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_raises_names_backend_and_plugin(method, tmp_path, monkeypatch):
    call, action = METHODS[method]
    body = NAME + LIMITS + FINGERPRINT + f"    def {method}: raise OSError('no\\ncard')\n"
    install(tmp_path, "acme", HEAD + body, distribution=f"acme-raises-{method.partition('(')[0]}")
    monkeypatch.syspath_prepend(tmp_path)
    backend = create_backend(load_plugins(clean_environ()), BackendConfig(name="acme"))
    with pytest.raises(BackendError) as caught:
        call(backend)
    assert str(caught.value) == f"{WHO} failed to {action}: OSError: no card"


@pytest.mark.parametrize("returned", ["None", "['a']", "{'THREADS': 4}"])
@pytest.mark.parametrize("method", ["prepare(self, cache_dir, environ)", "fingerprint(self)"])
def test_a_method_that_returns_no_texts_names_backend_and_plugin(method, returned, tmp_path, monkeypatch):
    name = method.partition("(")[0]
    body = NAME + LIMITS + FINGERPRINT + f"    def {method}: return {returned}\n"
    install(tmp_path, "acme", HEAD + body, distribution=f"acme-returns-{name}-{len(returned)}")
    monkeypatch.syspath_prepend(tmp_path)
    backend = create_backend(load_plugins(clean_environ()), BackendConfig(name="acme"))
    with pytest.raises(BackendError) as caught:
        METHODS[method][0](backend)
    assert str(caught.value) == f"{WHO} returned {returned} from {name}, not a mapping of text to text"


def graph_of(*outputs, written=False):
    inputs = (Input("values", torch.ones(2, 3)), Input("cache", torch.zeros(2, 3), written=written))
    return Graph(Program("step", (Dim("batch", 2),)), torch.nn.Identity, inputs, outputs)


class Compiled(CompiledProgram):
    def __init__(self, returned) -> None:
        self.returned = returned

    def bind(self, weights):
        return lambda *inputs: self.returned


def test_what_is_compiled_must_be_a_program():
    with pytest.raises(BackendError) as caught:
        check_compiled(lambda *inputs: None, graph_of("out"), "acme")
    assert str(caught.value) == (
        "backend=acme made a function of step[batch=2], which lacks bind, holds_parameters, save; "
        "see CompiledProgram in backends/base.py"
    )


@pytest.mark.parametrize(
    ("returned", "what"), [(torch.ones(2, 3), "Tensor"), ((torch.ones(2, 3),), "1 outputs"), (None, "NoneType")]
)
def test_a_call_must_return_every_output(returned, what):
    call = check_compiled(Compiled(returned), graph_of("vectors", "finite"), "acme").bind({})
    with pytest.raises(BackendError) as caught:
        call()
    assert f"step[batch=2] by backend=acme returned {what}, not the tuple (vectors, finite)" in str(caught.value)


def test_a_program_that_raises_names_its_backend(tmp_path):
    class Broken(CompiledProgram):
        def bind(self, weights):
            return lambda *inputs: 1 / 0

        def save(self, folder):
            raise ValueError("no form")

    program = check_compiled(Broken(), graph_of("out"), "acme")
    with pytest.raises(BackendError, match=r"^backend=acme failed to run step\[batch=2\]: ZeroDivisionError"):
        program.bind({})()
    with pytest.raises(BackendError, match=r"^backend=acme failed to save step\[batch=2\]: no form"):
        program.save(tmp_path)
    Broken.bind = None
    with pytest.raises(BackendError, match=r"^backend=acme failed to bind step\[batch=2\]: TypeError"):
        program.bind({})


def test_a_program_that_keeps_the_contract_is_passed_on(tmp_path):
    outputs = (torch.ones(2, 3), torch.ones(2, dtype=torch.bool))
    program = check_compiled(Compiled(outputs), graph_of("vectors", "finite"), "acme")
    call = program.bind({})
    assert call() is outputs and call() is outputs and program.holds_parameters
    with pytest.raises(BackendError, match="Compiled keeps no artifacts"):
        program.save(tmp_path)


def test_a_graph_that_is_written_into_needs_a_backend_that_does_so():
    class Acme(CompileBackend):
        name = "acme"
        limits = Limits()

        def compile(self, graph):
            raise AssertionError

        def fingerprint(self):
            return {}

    check_graph(graph_of("out"), Acme())
    with pytest.raises(BackendError) as caught:
        check_graph(graph_of("out", written=True), Acme())
    assert str(caught.value) == (
        "step[batch=2] writes into cache, and backend=acme updates nothing in place; use backend=inductor"
    )
    Acme.limits = Limits(in_place=True)
    check_graph(graph_of("out", written=True), Acme())
