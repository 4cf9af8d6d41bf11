"""Artifacts as one file: what comes back is what went in, and a file that is anything else is not taken at all."""

import hashlib
import io
import json
import os
import tarfile

import pytest

from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact
from sendnn_pipeline.programs.bundle import INDEX, export_artifacts, import_artifacts
from sendnn_pipeline.programs.store import ArtifactStore
from sendnn_pipeline.programs.times import StepTimes
from tests.programs.test_store import key, unasked

MAX_BYTES = 10**6
STEP_MS = {"0123456789abcdef a CPU pool[batch=1,len=8]": [[1, 8, 2.5]]}
KEYS = (key(), key("pool[batch=2,len=8]"))


def fill(folder):
    (folder / "program.so").write_bytes(b"code" * 300)
    (folder / "below").mkdir()
    (folder / "below" / "constants.json").write_text("{}")


@pytest.fixture
def exported(tmp_path):
    store = ArtifactStore(tmp_path / "there")
    for one in KEYS:
        store.publish(one, fill, model="tiny")
    export_artifacts(store.entries(), tmp_path / "run.artifacts", STEP_MS)
    return tmp_path / "run.artifacts"


@pytest.fixture
def here(tmp_path):
    return ArtifactStore(tmp_path / "here")


def members(file):
    with tarfile.open(file) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def rewritten(file, change):
    """Write the file again with its members changed by a function of them all."""
    changed = change(members(file))
    with tarfile.open(file, "w") as tar:
        for info, content in changed:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))


def test_what_is_exported_is_imported(exported, here, tmp_path):
    taken = import_artifacts(exported, here, MAX_BYTES)
    assert {artifact.key for artifact in taken} == set(KEYS) and not here.damaged()
    for one in KEYS:
        found = here.find(one, unasked)
        assert isinstance(found, Artifact) and found.model == "tiny"
        assert (found.folder / "below" / "constants.json").read_text() == "{}"
    assert StepTimes((here.folder,)).recorded() == STEP_MS
    # Once more, over what is there and over what is damaged.
    (here.find(KEYS[0], unasked).folder / "program.so").write_bytes(b"")
    import_artifacts(exported, here, MAX_BYTES)
    assert not here.damaged() and len(here.entries()) == 2


def test_a_file_without_times_is_taken_and_so_is_one_with_less_than_there_is_here(exported, here):
    ((name, steps),) = STEP_MS.items()
    StepTimes((here.folder,)).add({name: [[1, 8, 1.0]], "other": steps})
    import_artifacts(exported, here, MAX_BYTES)
    assert StepTimes((here.folder,)).recorded() == {name: [[1, 8, 1.0]], "other": steps}
    rewritten(exported, index_with(lambda index: index.pop("step_ms")))
    assert len(import_artifacts(exported, here, MAX_BYTES)) == 2


def test_a_generous_umask_makes_nothing_that_others_can_write(exported, here):
    before = os.umask(0)
    try:
        import_artifacts(exported, here, MAX_BYTES)
    finally:
        os.umask(before)
    assert not here.damaged() and len(here.entries()) == 2


def index_with(change):
    def changed(found):
        (info, content), *rest = found
        index = json.loads(content)
        change(index)
        return [(info, json.dumps(index).encode()), *rest]

    return changed


def renamed(name):
    """Have the last file elsewhere, in the index and as a member."""

    def changed(found):
        last = found[-1][0].name.partition("/")[2]

        def move(index):
            files = index["artifacts"][-1]["files"]
            files[name] = files.pop(last)

        found = index_with(move)(found)
        found[-1][0].name = f"{found[-1][0].name.partition('/')[0]}/{name}"
        return found

    return changed


def as_link(found):
    found[-1][0].type, found[-1][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    return found


def altered(found):
    return [*found[:-1], (found[-1][0], b"x" * len(found[-1][1]))]


def relabelled(found):
    """Have the first artifact under the second one's name."""
    names = [entry["folder"] for entry in json.loads(found[0][1])["artifacts"]]

    def swap(index):
        for entry, name in zip(index["artifacts"], reversed(names), strict=True):
            entry["folder"] = name

    found = index_with(swap)(found)
    for info, _ in found[1:]:
        folder, _, file = info.name.partition("/")
        info.name = f"{names[1 - names.index(folder)]}/{file}"
    return found


def with_manifest(content):
    """Have another manifest, which the index names."""

    def changed(found):
        info = next(info for info, _ in found if info.name.endswith(f"/{MANIFEST}"))

        def name(index):
            entry = index["artifacts"][0]
            entry["files"][MANIFEST], entry["manifest"] = len(content), hashlib.sha256(content).hexdigest()

        return [(one, content if one is info else text) for one, text in index_with(name)(found)]

    return changed


DEEP = b"[" * 100_000
FOREIGN = {
    "a name that no file has": (renamed("a" * 256), "its index names files elsewhere"),
    "a file that is a folder": (
        index_with(lambda index: index["artifacts"][0]["files"].update({"program.so/x": 1})),
        "its index names program.so as a file and as a folder",
    ),
    "nothing at all": (index_with(lambda index: index.update(artifacts=[])), "there are no artifacts in it"),
    "a deep index": (lambda found: [(found[0][0], DEEP), *found[1:]], "its index cannot be read: RecursionError"),
    "a deep manifest": (with_manifest(DEEP), "its manifest cannot be read: RecursionError"),
    "a manifest of no Program": (
        with_manifest(b'{"key": [["a", "b"]], "files": {}}'),
        "its manifest cannot be read: KeyError",
    ),
    "a file above": (renamed("../../evil.so"), "its index names files elsewhere"),
    "an absolute file": (renamed("/tmp/evil.so"), "its index names files elsewhere"),
    "a hidden folder": (
        index_with(lambda index: index["artifacts"][0].update(folder=".locks")),
        "its index names files elsewhere",
    ),
    "a link": (as_link, "is not a plain file"),
    "altered": (altered, "is not what was published: its sha256 is"),
    "a member more": (lambda found: [*found, found[-1]], "is not in its index, or twice, or of another size"),
    "a member less": (lambda found: found[:-1], "it lacks"),
    "no index": (lambda found: found[1:], f"does not begin with {INDEX}"),
    "an index of something else": (lambda found: [(found[0][0], b"[]"), *found[1:]], "its index cannot be read"),
    "a later form": (index_with(lambda index: index.update(form=2)), "its form is 2, and this version reads 1"),
    "another manifest": (
        index_with(lambda index: index["artifacts"][0].update(manifest="0" * 64)),
        "is not what was exported: its sha256 is another",
    ),
    "another's name": (relabelled, "is the artifact of another key"),
    "too much": (
        index_with(lambda index: index["artifacts"][0]["files"].update({"program.so": 2**40})),
        "artifacts.max_bytes is 1000000; raise artifacts.max_bytes",
    ),
    "times of nothing": (
        index_with(lambda index: index.update(step_ms={"x": [[1, -2.0]]})),
        "its index cannot be read",
    ),
    "times of another form": (index_with(lambda index: index.update(step_ms=["x"])), "its index cannot be read"),
    "a size below nothing": (
        index_with(lambda index: index["artifacts"][0]["files"].update({"program.so": -1})),
        "its index is not complete",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_nothing_is_taken_of_a_file_that_is_not_what_was_exported(case, exported, here, tmp_path):
    change, reason = FOREIGN[case]
    rewritten(exported, change)
    with pytest.raises(ArtifactError) as caught:
        import_artifacts(exported, here, MAX_BYTES)
    assert str(caught.value).startswith(f"{exported} is not taken: ")
    assert reason in str(caught.value)
    assert not here.entries() and list(here.folder.iterdir()) == []
    assert not (tmp_path / "evil.so").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_not_taken(share, exported, here):
    whole = exported.read_bytes()
    exported.write_bytes(whole[: int(len(whole.rstrip(b"\0")) * share)])
    with pytest.raises(ArtifactError, match=f"{exported.name} is not taken: "):
        import_artifacts(exported, here, MAX_BYTES)
    assert not here.entries()


def test_no_file_at_all_is_one_line(here, tmp_path):
    with pytest.raises(ArtifactError, match=r"none cannot be read: No such file or directory; name a file of catalog"):
        import_artifacts(tmp_path / "none", here, MAX_BYTES)
    with pytest.raises(ArtifactError, match="cannot be written: No such file"):
        export_artifacts([], tmp_path / "no folder" / "file", {})
