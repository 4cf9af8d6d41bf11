"""Programs from the store: compiled once, opened later, and compiled again where an artifact does not open."""

import pytest
import torch

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram, Graph, Input, Limits
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.pipeline.cache import ProgramCache
from sendnn_pipeline.programs.key import ArtifactKeys
from sendnn_pipeline.programs.program import Program
from sendnn_pipeline.programs.store import ArtifactStore

FILE = "program.txt"


class Doubled(CompiledProgram):
    holds_parameters = False

    def bind(self, weights):
        return lambda values: (values * 2,)

    def save(self, folder):
        (folder / FILE).write_text("doubled")


class FilesBackend(CompileBackend):
    """Writes a file, and opens it unless it is told not to."""

    name = "files"
    limits = Limits(artifacts="files")
    opens = True

    def compile(self, graph):
        return Doubled()

    def open(self, folder, graph):
        if not self.opens or (folder / FILE).read_text() != "doubled":
            raise BackendError(f"{folder} cannot be opened: another runtime")
        return Doubled()

    def fingerprint(self):
        return {}


def build():
    raise AssertionError("the model is loaded")


GRAPH = Graph(Program("double", ()), build, (Input("values", torch.ones(2)),), ("doubles",))


def cache_at(folder, backend, *, require=False):
    store = ArtifactStore(folder / "artifacts")
    return ProgramCache(backend, ArtifactKeys(()), store, require, lambda: "weights", embedded=False)


def test_an_artifact_is_opened_without_the_model(tmp_path):
    for source in ("compiled", "artifact", "artifact"):
        program, found, _ = cache_at(tmp_path, FilesBackend()).get_or_compile(GRAPH)
        assert found == source
        (doubles,) = program.bind({})(torch.ones(2))
        assert doubles.tolist() == [2, 2]


def test_an_artifact_that_does_not_open_is_compiled_again_and_replaced(tmp_path):
    backend = FilesBackend()
    cache_at(tmp_path, backend).get_or_compile(GRAPH)
    backend.opens = False
    _, source, reason = cache_at(tmp_path, backend).get_or_compile(GRAPH)
    assert source == "compiled" and "cannot be opened: another runtime" in reason
    with pytest.raises(ArtifactError, match=r"artifacts\.require=true: .*cannot be opened: another runtime"):
        cache_at(tmp_path, backend, require=True).get_or_compile(GRAPH)
    backend.opens = True
    assert cache_at(tmp_path, backend, require=True).get_or_compile(GRAPH)[1] == "artifact"
    (artifact,) = ArtifactStore(tmp_path / "artifacts").entries()
    assert artifact.key.program == "double[]"
