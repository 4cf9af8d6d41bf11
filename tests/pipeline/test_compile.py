"""The compile stage: one Program after the other, or several at once where the backend can."""

import threading
from types import SimpleNamespace

import pytest
import torch

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram, Graph, Input, Limits
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.pipeline.compile import Compile
from sendnn_pipeline.programs.program import Program
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32

PROGRAMS = tuple(Program(name, ()) for name in ("one", "two", "three"))


class Nothing(CompiledProgram):
    def bind(self, weights):
        return lambda: ()


class Recording(CompileBackend):
    """Compiles nothing, and knows by which threads; ``together`` waits until as many are at it."""

    name = "recording"

    def __init__(self, *, concurrent, together=1, broken=""):
        self.limits, self.broken = Limits(concurrent_compiles=concurrent), broken
        self.threads, self.barrier = [], threading.Barrier(together)

    def compile(self, graph):
        self.threads.append(threading.current_thread())
        self.barrier.wait(timeout=30)
        if graph.program.function == self.broken:
            raise BackendError(f"{graph.name} does not compile")
        return Nothing()

    def fingerprint(self):
        return {}


class Core:
    installed = None

    def graph(self, program):
        return Graph(program, lambda: None, (Input("values", torch.ones(2)),), ("doubles",))

    def install(self, compiled):
        self.installed = compiled


@pytest.fixture(scope="module")
def resolved(tiny):
    return resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "artifacts.enabled=false"])


def compiled(backend, resolved, simple=None):
    run = SimpleNamespace(
        **{name: getattr(resolved.run, name) for name in ("config", "model", "cache_dir", "served_name")},
        plan=SimpleNamespace(programs=PROGRAMS, key_fields=()),
        threads=2,
    )
    events, core = [], Core()
    stage = Compile(backend, simple or backend, None, World(), events.append)
    result = stage.run(SimpleNamespace(run=run, core=core))
    assert list(core.installed) == list(PROGRAMS) and result.num_compiled == 3
    assert [(event.state, event.index) for event in events] == [
        (state, index) for index in (1, 2, 3) for state in ("started", "finished")
    ]


def test_one_after_the_other_in_the_stage_s_own_thread(resolved):
    backend = Recording(concurrent=False)
    compiled(backend, resolved)
    assert {*backend.threads} == {threading.current_thread()}


def test_several_at_once(resolved):
    compiled(Recording(concurrent=True, together=3), resolved)


def test_a_helper_s_backend_has_to_be_able_to_as_well(resolved):
    backend = Recording(concurrent=True)
    compiled(backend, resolved, Recording(concurrent=False))
    assert {*backend.threads} == {threading.current_thread()}


@pytest.mark.parametrize("concurrent", [False, True])
def test_the_first_that_fails_is_the_error(resolved, concurrent):
    with pytest.raises(BackendError, match="two"):
        compiled(Recording(concurrent=concurrent, broken="two"), resolved)
