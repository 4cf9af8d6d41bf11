"""Compiled without a card, copied, required elsewhere: by our own artifacts, and by what the plugin for vLLM wrote."""

import json
import os
import shutil
from contextlib import nullcontext

import pytest

from sendnn_pipeline.app import stored
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import ArtifactError, BackendError
from sendnn_pipeline.messages import Ready, StageEvent
from sendnn_pipeline.pipeline.rank import run_rank
from sendnn_pipeline.programs import artifact
from sendnn_pipeline.programs.artifact import file_digest
from tests.backends.sendnn.conftest import forget_emulator
from tests.backends.test_life_cycle import EdgePort

KEPT, ENABLE = "TORCH_SENDNN_CACHE_DIR", "TORCH_SENDNN_CACHE_ENABLE"
SIZES = ("scheduler.chunk_size=128", "scheduler.max_num_seqs=4")
COMPILES = ("backend=sendnn_compile_only", "pipeline=precompile")
ONCE = "pipeline=precompile"


def keeping(folder):
    return {KEPT: str(folder), ENABLE: "1"}


def precompiled(card, model, folder, *words):
    """Compile into a folder without a card, and return a copy of it, as on another machine."""
    forget_emulator()
    (ready,) = card.run(f"model.path={model}", *COMPILES, *words, **keeping(folder)).of(Ready)
    assert not ready.steps and card.device.compiled == 1 and not card.device.deployed
    assert not list(folder.glob(".working-*"))
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    forget_emulator()
    return copy


def compiled_files(folder):
    """Return the files of the artifacts in a folder, and when each was changed: a manifest's time is its last use."""
    return {
        path: 0 if path.name == "manifest.json" else path.stat().st_mtime_ns
        for path in sorted(folder.glob("[!.]*/**/*"))
        if path.is_file()
    }


def test_a_decoder_compiled_without_a_card_is_served_elsewhere_and_nothing_else_is(llama, card, tmp_path):
    copy = precompiled(card, llama, tmp_path / "kept", *SIZES)
    variables = {**keeping(copy), "SENDNN_INFERENCE_REQUIRE_PRECOMPILED_DECODERS": "1"}
    before = compiled_files(copy)
    card.run(f"model.path={llama}", *SIZES, ONCE, **variables)
    assert os.environ["DISABLE_COMPILATION"] == "true"
    assert (card.device.cache_hits, card.device.compiled) == (1, 0) and compiled_files(copy) == before
    forget_emulator()
    with pytest.raises(ArtifactError) as caught:
        card.resolve(f"model.path={llama}", SIZES[0], "scheduler.max_num_seqs=8", ONCE, **variables)
    assert "(set by SENDNN_INFERENCE_REQUIRE_PRECOMPILED_DECODERS)" in str(caught.value)
    rows = [line.split() for line in caught.value.details]
    assert ["VLLM_DT_MAX_BATCH_SIZE", "8", "≠", "4"] in rows and ["VLLM_DT_CHUNK_LEN", "128", "128"] in rows
    assert [row[0] for row in rows if row[0] == "num_blocks" and "≠" in row]


def test_shapes_are_required_of_pooling_and_an_altered_set_is_not_used_but_rebuilt(tiny, card, tmp_path):
    words = (f"model.path={tiny}", "warmup.shapes=[64x1,64x2]", ONCE)
    copy = precompiled(card, tiny, tmp_path / "kept", "warmup.shapes=[64x1,64x2]")
    card.run(*words, "artifacts.require=true", **keeping(copy))
    assert (card.device.cache_hits, card.device.compiled) == (1, 0)
    # Whatever the library calls what it keeps, and wherever below.
    file = next(path for path in compiled_files(copy) if path.name != "manifest.json" and path.stat().st_size)
    file.write_text("{}")
    with pytest.raises(ArtifactError, match="is not what was published: its size is 2 bytes"):
        card.resolve(*words, "artifacts.require=true", **keeping(copy))
    forget_emulator()
    card.run(*words, **keeping(copy))
    assert card.device.compiled == 1 and len(list(copy.glob(".set-aside-*"))) == 1
    forget_emulator()
    card.run(*words, "artifacts.require=true", **keeping(copy))
    assert (card.device.cache_hits, card.device.compiled) == (1, 0)


def test_without_a_folder_of_the_user_s_it_is_the_artifacts(tiny, card):
    words = (f"model.path={tiny}", ONCE)
    card.run(*words)
    assert card.device.compiled == 1 and list(card.cache_dir.glob("artifacts/pool*/manifest.json"))
    forget_emulator()
    resolved = card.resolve(*words)
    assert not resolved.missing
    with pytest.raises(ArtifactError, match=r"have no artifacts|has no artifact"):
        card.resolve(*words, "warmup.shapes=[64x4]", "artifacts.require=true")


ENTRY = {"MODEL_NAME": "llama", "NUM_AIUS": 1, "VLLM_DT_MAX_CONTEXT_LEN": 256, "VLLM_DT_MAX_BATCH_SIZE": 4}


def entry(**data):
    return {"sendnn_inference_version": "0.8.0", "data": {**ENTRY, **data}}


CATALOGS = {
    "the first that fits": ([entry(VLLM_DT_MAX_CONTEXT_LEN=512), entry()], ""),
    "a single one": (entry(), ""),
    "one that says more": ([entry(VLLM_DT_CHUNK_LEN=128)], ""),
    "another chunk": ([entry(VLLM_DT_CHUNK_LEN=512)], "VLLM_DT_CHUNK_LEN 128 ≠ 512"),
    "more cards": ([entry(NUM_AIUS=2)], "NUM_AIUS 1 ≠ 2"),
    "shapes": ([entry(SENDNN_INFERENCE_WARMUP_PROMPT_LENS="64")], "shapes a decoder's ≠"),
    "an empty list": ([], None),
    "an empty object": ({}, None),
}


@pytest.mark.parametrize("case", CATALOGS)
def test_the_plugin_s_catalog_is_read(case, llama, card, tmp_path):
    content, differs = CATALOGS[case]
    name = "pre_compiled_cache_catalog.json" if case != "a single one" else "model_compile.log.json"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / name).write_text(json.dumps(content))
    words = (f"model.path={llama}", *SIZES, "model.max_model_len=256", "artifacts.require=true")
    if differs == "":
        resolved = card.resolve(*words, **keeping(tmp_path / "kept"))
        assert card.variables[KEPT] == str(tmp_path / "kept") and card.variables["DISABLE_COMPILATION"] == "true"
        assert any(f"{name}[" in note and "nothing here proves it" in note for note in resolved.draft.notices)
        return
    with pytest.raises(ArtifactError) as caught:
        card.resolve(*words, **keeping(tmp_path / "kept"))
    shown = [" ".join(line.split()) for line in caught.value.details]
    assert any(line.startswith(differs) for line in shown) if differs else shown == []


def test_a_batch_of_one_is_what_the_plugin_calls_two_and_broken_catalogs_are_one_line(llama, card, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    file = folder / "pre_compiled_cache_catalog.json"
    words = (f"model.path={llama}", "model.max_model_len=256", "scheduler.max_num_seqs=1", "artifacts.require=true")
    file.write_text(json.dumps([entry(VLLM_DT_MAX_BATCH_SIZE=2, MODEL_NAME="org/other")]))
    notices = card.resolve(*words, **keeping(folder)).draft.notices
    assert any("is of org/other, and this run's model is" in note for note in notices)
    for content, says in (("{", "cannot be read as JSON"), ("[1]", r"entry 0 of .* has no data"), ('"x"', "no data")):
        file.write_text(content)
        with pytest.raises(BackendError, match=says):
            card.resolve(*words, **keeping(folder))
    file.unlink()
    file.mkdir()
    with pytest.raises(BackendError, match="is not a file"):
        card.resolve(*words, **keeping(folder))


def test_one_file_has_a_device_s_sets_and_their_step_times(tiny, card, tmp_path, in_process, monkeypatch):
    words = (f"model.path={tiny}", ONCE)
    card.run(*words, **keeping(tmp_path / "here"))
    file, there = str(tmp_path / "run.artifacts"), tmp_path / "there"
    model = ("model=local", *words, "backend=sendnn", f"cache_dir={card.cache_dir}")
    # Those of the engine that ran in this process, which no user sets.
    for name in card.variables:
        monkeypatch.delenv(name)
    exported = in_process("catalog", "export", file, *model, **keeping(tmp_path / "here"))
    assert exported.returncode == 0 and "with step times of" in exported.stdout, exported.stderr
    imported = in_process("catalog", "import", file, "backend=sendnn", **keeping(there))
    assert imported.returncode == 0 and f"into {there}" in imported.stdout, imported.stderr
    forget_emulator()
    card.cache_dir = tmp_path / "other"
    (ready,) = card.run(*words, "artifacts.require=true", **keeping(there)).of(Ready)
    assert (card.device.cache_hits, card.device.compiled) == (1, 0)
    assert not ready.measured and ready.steps


def test_of_a_disk_that_is_read_only_the_library_has_the_artifact_itself(tiny, card, tmp_path, monkeypatch):
    words, folder = (f"model.path={tiny}", ONCE), tmp_path / "kept"
    card.run(*words, **keeping(folder))
    forget_emulator()
    # As root, every folder can be written that is not on such a disk.
    monkeypatch.setattr(stored, "os", OsWithout(folder))
    before = compiled_files(folder)
    card.run(*words, "artifacts.require=true", **keeping(folder))
    (artifact,) = folder.glob("pool*")
    assert os.environ[KEPT] == str(artifact) and card.device.cache_hits == 1 and compiled_files(folder) == before


def test_a_start_computes_each_digest_once(tiny, card, tmp_path, monkeypatch):
    words, folder, computed = (f"model.path={tiny}", ONCE), tmp_path / "kept", []

    def digest(file):
        computed.append(file.name)
        return file_digest(file)

    card.run(*words, **keeping(folder))
    monkeypatch.setattr(artifact, "file_digest", digest)
    for required in ("artifacts.require=false", "artifacts.require=true"):
        forget_emulator()
        computed.clear()
        card.run(*words, required, **keeping(folder))
        ours = [name for name in computed if name != artifact.MANIFEST]
        assert card.device.cache_hits == 1 and ours and len(ours) == len(set(ours))


def test_a_file_that_changes_after_it_was_verified_is_verified_again(tiny, card, tmp_path):
    words, folder = (f"model.path={tiny}", ONCE), tmp_path / "kept"
    card.run(*words, **keeping(folder))
    forget_emulator()
    resolved = card.resolve(*words, **keeping(folder))
    (file,) = (path for path in folder.glob("pool*/**/*") if path.is_file() and path.name != artifact.MANIFEST)
    was, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    port = EdgePort([])
    run_rank(port, resolved.run, World())
    says = [event.detail for event in port.of(StageEvent) if event.source == "compiled" and event.detail]
    assert says and all("is not what was published: its sha256 is" in text for text in says)
    assert card.device.compiled == 1 and not card.device.cache_hits


@pytest.mark.parametrize("ends", [True, False])
def test_a_library_that_keeps_nothing_fails_a_precompile_and_no_server(ends, tiny, card, tmp_path, caplog):
    words, folder = (f"model.path={tiny}", *((ONCE,) if ends else ())), tmp_path / "kept"
    resolved = card.resolve(*words, **keeping(folder))
    card.monkeypatch.setattr("torch_sendnn.cache.keep", lambda *_: None)
    with pytest.raises(ArtifactError, match="left nothing of it in its cache") if ends else nullcontext():
        run_rank(EdgePort([]), resolved.run, World())
    assert ends or "left nothing of it in its cache: every start compiles" in caplog.text
    assert not list(folder.glob("pool*"))


class OsWithout:
    """The module of this name, for which a folder cannot be written."""

    def __init__(self, folder):
        self.folder = folder

    def access(self, path, mode):
        return path != self.folder and os.access(path, mode)

    def __getattr__(self, name):
        return getattr(os, name)
