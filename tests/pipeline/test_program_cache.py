"""Which weights an artifact is for, from the compiled Program's own word on what it holds."""

from dataclasses import dataclass, field

import pytest

from sendnn_pipeline.backends.base import CompileBackend, Graph, Limits
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.pipeline.cache import ProgramCache
from sendnn_pipeline.programs.key import artifact_keys
from sendnn_pipeline.programs.program import Dim, Program
from sendnn_pipeline.programs.store import ArtifactStore

GRAPH = Graph(Program("pool", (Dim("n", 8),)), build=lambda: None, inputs=(), outputs=("out",))


@dataclass
class Compiled:
    content: str
    holds_parameters: bool

    def bind(self, weights):
        return lambda: (self.content,)

    def save(self, folder):
        (folder / "program").write_text(self.content)


@dataclass
class Backend(CompileBackend):
    """Compiles what says of itself for which weights it was."""

    weights: str
    holds_parameters: bool
    compiled: list = field(default_factory=list)
    error: Exception | None = None
    """What its library raises at an artifact."""
    name = "fake"
    limits = Limits(artifacts="files")

    def compile(self, graph):
        self.compiled.append(graph.name)
        return Compiled(self.weights, self.holds_parameters)

    def open(self, folder, graph):
        if self.error is not None:
            raise self.error
        return Compiled((folder / "program").read_text(), self.holds_parameters)

    def fingerprint(self):
        return {}


@pytest.fixture
def get(tmp_path):
    """Get the Program for a run of some weights: what it was compiled for, where it came from, and why."""
    store, keys = ArtifactStore(tmp_path / "artifacts"), artifact_keys("structure", (), "fake", {}, ())

    def get(weights, *, holds_parameters, require=False, embedded=False, error=None):
        backend = Backend(weights, holds_parameters, error=error)
        cache = ProgramCache(backend, keys, store, require, lambda: weights, embedded)
        made, source, reason = cache.get_or_compile(GRAPH)
        assert bool(backend.compiled) == (source == "compiled")
        return made.bind({})()[0], source, reason

    return get


def test_what_holds_no_parameters_is_for_all_weights_of_its_structure(get):
    assert get("these", holds_parameters=False) == ("these", "compiled", "no artifact of this Program yet")
    assert get("others", holds_parameters=False) == ("these", "artifact", "")


def test_what_holds_some_is_refused_to_others_and_compiled_anew(get):
    get("these", holds_parameters=True)
    assert get("these", holds_parameters=True) == ("these", "artifact", "")
    with pytest.raises(ArtifactError, match=r"artifacts\.require=true: .*it holds parameters of other weights"):
        get("others", holds_parameters=True, require=True)
    content, source, reason = get("others", holds_parameters=True)
    assert (content, source) == ("others", "compiled") and "it holds parameters of other weights" in reason
    assert get("others", holds_parameters=True) == ("others", "artifact", "")


def test_where_the_key_has_the_weights_nothing_more_is_noted(get):
    """As it does of Programs that hold all of them."""
    get("these", holds_parameters=True, embedded=True)
    assert get("these again", holds_parameters=True, embedded=True) == ("these", "artifact", "")


CANNOT_OPEN = {
    "its own word": (BackendError("made by another card"), "made by another card"),
    "what its library raises": (OSError("wrong magic"), "backend=fake failed to open it: OSError: wrong magic"),
}


@pytest.mark.parametrize("case", CANNOT_OPEN)
def test_an_artifact_that_the_backend_cannot_open_is_a_miss_with_its_reason(get, case):
    error, reason = CANNOT_OPEN[case]
    get("these", holds_parameters=False)
    assert get("new", holds_parameters=False, error=error) == ("new", "compiled", reason)
    assert get("these", holds_parameters=False) == ("new", "artifact", "")
    with pytest.raises(ArtifactError, match=rf"artifacts\.require=true: {reason}"):
        get("these", holds_parameters=False, require=True, error=error)
