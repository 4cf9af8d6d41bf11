"""All ranks meet once everything is compiled, with a folder of a library to fill and without."""

import pytest

from sendnn_pipeline.pipeline.library_set import LibrarySet, filling
from sendnn_pipeline.programs.key import ArtifactKey
from sendnn_pipeline.programs.store import Artifact, ArtifactStore
from tests.distributed.test_world import run_ranks


class CacheAt:
    """A library's cache in one folder."""

    def __init__(self, folder):
        self.own = folder

    def folder(self, environ, default):
        return self.own


@pytest.mark.parametrize("filler", [0, 1])
@pytest.mark.parametrize("is_other", [True, False])
def test_a_machine_without_a_folder_to_fill_meets_one_that_has_one(tmp_path, filler, is_other):
    working = tmp_path / "store" / "working"
    store, key = ArtifactStore(tmp_path / "store"), ArtifactKey((("program", "pool"),))
    first = LibrarySet(CacheAt(working), key, store, "tiny", working, 2**20)
    # An artifact's own folder, of a store that is read-only; or no cache at all.
    other = LibrarySet(CacheAt(tmp_path / "artifact"), key, store, "tiny", working, 2**20) if is_other else None

    def job(world):
        with filling(first if world.rank == filler else other, {}, world) as filled:
            if world.rank == filler:
                (working / "compiled").write_text("code")
            filled.publish()
            return world.broadcast("the plan")

    assert run_ranks(2, job, 5.0) == ["the plan", "the plan"]
    assert isinstance(first.find(), Artifact)
