"""The artifact store: what is found, why not, what damage does, two writers, a writer that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.programs.artifact import Artifact
from sendnn_pipeline.programs.key import ArtifactKey
from sendnn_pipeline.programs.store import ArtifactStore, Miss
from tests.served import ROOT, environment


def unasked():
    """No artifact here holds weights, so nobody asks which the run has."""
    raise AssertionError("the digest of the weights is asked for")


def key(program="pool[batch=1,len=8]", **fields):
    return ArtifactKey((("program", program), *({"torch": "2.13", "cpu": "avx2", **fields}).items()))


def write(content):
    return lambda folder: (folder / "program.so").write_bytes(content)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


def test_what_is_published_is_found(store):
    assert store.find(key(), unasked) == Miss("no artifact of this Program yet")
    store.publish(key(), write(b"code"))
    found = store.find(key(), unasked)
    assert isinstance(found, Artifact) and (found.folder / "program.so").read_bytes() == b"code"


def test_a_miss_names_the_first_field_that_differs_from_the_nearest(store):
    store.publish(key(torch="2.12", cpu="avx512"), write(b"far"))
    store.publish(key(torch="2.12"), write(b"near"))
    assert store.find(key(), unasked) == Miss("torch is 2.12 there and 2.13 here")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "program.so").write_bytes(b"edoc"), "program.so is not what was published"),
        (lambda f: (f / "program.so").write_bytes(b"cod"), "program.so is not what was published"),
        (lambda f: (f / "program.so").unlink(), "its manifest names"),
        (lambda f: (f / "more.so").write_bytes(b""), "its manifest does not name more.so"),
        (lambda f: (f / "manifest.json").write_text("{"), "its manifest cannot be read"),
        (lambda f: (f / "program.so").chmod(0o666), "can be written by others"),
        (lambda f: f.chmod(0o777), "can be written by others"),
        (lambda f: ((f / "program.so").rename(f.parent / "x"), (f / "program.so").symlink_to(f.parent / "x")), "link"),
    ],
)
def test_a_damaged_artifact_is_not_used_and_is_replaced(store, damage, words):
    published = store.publish(key(), write(b"code"))
    damage(published.folder)
    found = store.find(key(), unasked)
    assert isinstance(found, Miss) and words in found.reason
    assert words in next(iter(store.damaged().values()))
    store.publish(key(), write(b"again"))
    assert isinstance(store.find(key(), unasked), Artifact)
    assert [path.name for path in store.folder.glob(".set-aside-*")] == [f".set-aside-{published.folder.name}"]


def test_what_is_read_is_below_its_folder(store):
    def below(folder):
        (folder / "cache").mkdir(mode=0o777)
        (folder / "cache" / "graph.json").write_text("{}")

    found = store.publish(key(), below)
    assert list(found.files) == ["cache/graph.json"] and isinstance(store.find(key(), unasked), Artifact)
    (found.folder / "cache").chmod(0o777)
    assert "cache can be written by others" in store.find(key(), unasked).reason


def test_a_manifest_cannot_name_files_elsewhere(store, tmp_path):
    published = store.publish(key(), write(b"code"))
    manifest = json.loads((published.folder / "manifest.json").read_text())
    manifest["files"]["../../evil.so"] = [1, "0"]
    (published.folder / "manifest.json").write_text(json.dumps(manifest))
    assert "names files elsewhere" in store.find(key(), unasked).reason


def test_what_others_can_write_is_trusted_by_its_digest_only(store):
    import hashlib

    published = store.publish(key(), write(b"code"))
    published.folder.chmod(0o777)
    assert isinstance(store.find(key(), unasked), Miss)
    digest = hashlib.sha256((published.folder / "manifest.json").read_bytes()).hexdigest()
    trusting = ArtifactStore(store.folder, frozenset({digest}))
    assert isinstance(trusting.find(key(), unasked), Artifact)
    (published.folder / "program.so").write_bytes(b"evil")
    assert "not what was published" in trusting.find(key(), unasked).reason


def test_an_artifact_that_holds_parameters_is_for_its_own_weights(store):
    store.publish(key(), write(b"code"), weights="these")
    assert isinstance(store.find(key(), lambda: "these"), Artifact)
    found = store.find(key(), lambda: "others")
    assert isinstance(found, Miss) and "it holds parameters of other weights" in found.reason
    # Compiled for the others, it takes the first one's place.
    store.publish(key(), write(b"code of others"), weights="others")
    assert isinstance(store.find(key(), lambda: "others"), Artifact)
    assert isinstance(store.find(key(), lambda: "these"), Miss)


def test_pruning_takes_what_was_used_longest_ago_and_never_what_is_to_stay(store):
    for index, name in enumerate("abcd"):
        folder = store.publish(key(name), write(b"x" * 100)).folder
        os.utime(folder / "manifest.json", (1000 + index, 1000 + index))
    store.find(key("a"), unasked)
    removed = store.prune(250, keep=frozenset({key("b").digest}))
    assert {artifact.key.program for artifact in removed} == {"c", "d"}
    assert {artifact.key.program for artifact in store.entries()} == {"a", "b"}


def test_a_store_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    store = ArtifactStore(tmp_path / "file")
    with pytest.raises(ArtifactError, match=r"artifacts cannot be written to .*artifacts\.enabled=false"):
        store.publish(key(), write(b""))
    with (
        pytest.raises(ArtifactError, match=r"artifacts cannot be written to .*artifacts\.enabled=false"),
        store.compiling(key()),
    ):
        pass


def test_a_generous_umask_makes_no_artifact_untrusted(tmp_path):
    before = os.umask(0)
    try:
        store = ArtifactStore(tmp_path / "deep" / "artifacts")
        with store.compiling(key()):
            store.publish(key(), write(b"code"))
    finally:
        os.umask(before)
    assert isinstance(store.find(key(), unasked), Artifact)


@pytest.mark.parametrize(("umask", "readers"), [(0o022, 0o55), (0o027, 0o50), (0o077, 0)])
def test_who_may_read_an_artifact_the_umask_says(store, umask, readers):
    """Whatever wrote its files: safetensors lets nobody else read them, and an artifact is served as any user."""

    def closed(folder):
        (folder / "below").mkdir(mode=0o700)
        for name in ("below/graph.json", "constants.safetensors"):
            (folder / name).touch(mode=0o600)

    before = os.umask(umask)
    try:
        folder = store.publish(key(), closed).folder
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o077 for path in (folder / "below", *folder.rglob("*.*"))}
    files = readers & 0o44
    assert modes == dict.fromkeys(("manifest.json", "constants.safetensors", "graph.json"), files) | {"below": readers}


def test_what_this_user_may_not_read_is_said_with_who_can_help(store, monkeypatch):
    folder = store.publish(key(), write(b"code")).folder

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("sendnn_pipeline.programs.artifact.file_digest", refuse)
    found = store.find(key(), unasked)
    assert found.reason.endswith(
        f"may not read {folder}/manifest.json; its owner makes it readable with chmod -R a+rX {store.folder}"
    )


def test_the_second_to_compile_waits_and_finds_what_the_first_published(store):
    order = []

    def compile_once(name):
        with store.compiling(key()):
            if isinstance(store.find(key(), unasked), Artifact):
                order.append("found")
                return
            time.sleep(0.2)
            store.publish(key(), write(name.encode()))
            order.append("compiled")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_once, "abcd"))
    assert order == ["compiled", "found", "found", "found"]


WRITER = """
import sys, time
from pathlib import Path
from tests.programs.test_store import key
from sendnn_pipeline.programs.store import ArtifactStore

def write(folder):
    (folder / "program.so").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "program.so").write_bytes(b"whole")

store = ArtifactStore(Path(sys.argv[1]))
while True:
    with store.compiling(key()):
        store.publish(key(), write)
    print("whole", flush=True)
"""


def writer(store, seconds):
    command = [sys.executable, "-c", WRITER, str(store.folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment())


def test_a_writer_that_is_killed_leaves_nothing_to_find_and_its_lock_is_free(store):
    with writer(store, 60) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert isinstance(store.find(key(), unasked), Miss) and store.entries() == []
    with store.compiling(key()):
        store.publish(key(), write(b"whole"))
    assert (store.find(key(), unasked).folder / "program.so").read_bytes() == b"whole"
    (left,) = store.folder.glob(".partial-*")
    os.utime(left, (1000, 1000))
    store.prune(10**9)
    assert not left.exists()


def test_a_reader_beside_a_writer_never_sees_a_half(store):
    with writer(store, 0.001) as process:
        process.stdout.readline()
        seen = set()
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            found = store.find(key(), unasked)
            # In the moment between the old folder and the new one there is none; what is found is whole.
            if isinstance(found, Artifact):
                seen.add(found.files["program.so"][0])
            else:
                assert "not what was published" not in found.reason
        process.kill()
    assert seen == {len(b"whole")}
