"""Inductor for real: what it computes, that nothing compiles after warmup, and its checks before it starts."""

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sendnn_pipeline import Embedder
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.errors import ConfigError
from tests.bare_machine import run_there
from tests.conftest import resolved_run
from tests.reference import mean_pooled_ids
from tests.served import FLOAT32, MINILM_FLOAT32, ROOT, Served, environment, sendnn

# The Programs of the tiny model that all tests here share: one of a fixed size, one of every size.
TINY = (*FLOAT32, "process.num_cpus=1", "backend=inductor", "warmup.shapes=[8x1,8..64x1..8]")


@pytest.fixture(scope="module")
def words(tiny, artifacts):
    """Words of a run of the tiny model, its Programs in the folder that all share."""
    return (*TINY, f"model.path={tiny}", artifacts)


CODE = """
import json, sys
from sendnn_pipeline import Embedder

with Embedder(*sys.argv[1:]) as embedder:
    vectors = 0
    for length in range(1, 65):
        row = [2 + length % 50] * length
        vectors += len(embedder.embed(row)) + len(embedder.embed([row] * 3))
    print(json.dumps({"vectors": vectors}), end=" ")
print(json.dumps(sorted(sys.modules.keys() & {"torch._dynamo", "torch._inductor.compile_fx", "transformers", "sympy"})))
"""


def every_length(words, **variables):
    command = [sys.executable, "-c", CODE, *words]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(**variables), check=False)
    assert ended.returncode == 0, ended.stderr
    found, _, modules = ended.stdout.partition("} ")
    assert json.loads(found + "}") == {"vectors": 64 * 4}
    return json.loads(modules)


@pytest.mark.slow
def test_every_length_runs_and_from_artifacts_no_compiler_is_imported(words, tmp_path):
    if "transformers" not in (first := every_length(words)):
        # They had been compiled already.
        first = every_length([*words, "warmup.shapes=[8x1]", f"artifacts.dir={tmp_path}"])
    assert {"torch._dynamo", "torch._inductor.compile_fx", "transformers", "sympy"} == set(first)
    # From artifacts no compiler is so much as imported, before or while every length is sent; nor is there one.
    assert every_length([*words, "artifacts.require=true"], CXX="no-such-compiler") == []


@pytest.mark.slow
def test_vectors_against_transformers(texts, vectors_of_texts, artifacts):
    words = (*MINILM_FLOAT32, "process.num_cpus=1", "backend=inductor", artifacts)
    with Embedder(*words) as embedder:
        vectors = embedder.embed(texts[:100], truncate_prompt_tokens=256).astype(np.float64)
    assert (vectors * vectors_of_texts[:100]).sum(axis=1).min() >= 0.99999


def prepare(tmp_path, environ):
    return InductorBackend(InductorConfig(name="inductor")).prepare(tmp_path, environ)


def test_a_missing_compiler_is_one_line_where_something_is_to_be_compiled(tiny, tmp_path, in_process):
    words = (*FLOAT32, f"model.path={tiny}", "backend=inductor", f"artifacts.dir={tmp_path}", "serve.port=0")
    ended = in_process(*words, CXX="no-such-compiler")
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert "no-such-compiler is not on PATH" in line and "backend=eager" in line and "warmup …" not in ended.stdout


@pytest.mark.parametrize(
    ("dtype", "fits", "frozen"),
    [
        ("float32", [], ["backend.freezing=true"]),
        # It freezes unless it is told not to.
        ("bfloat16", ["backend.freezing=false"], []),
    ],
)
def test_frozen_programs_that_do_not_fit_are_refused(tiny, tmp_path, dtype, fits, frozen):
    weights = tmp_path / "model"
    shutil.copytree(tiny, weights)
    # Sparse: a size on paper, no block on the disk.
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    (weights / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(weights / "model.safetensors", 8 + len(header) + 2**40)
    words = ["model=local", f"model.path={weights}", f"model.dtype={dtype}", "backend=inductor"]
    resolved_run([*words, *fits])
    with pytest.raises(ConfigError, match=r"2 copies of them.*GiB are free; use fewer Programs"):
        resolved_run([*words, *frozen, "warmup.shapes=[64x4]"])


def test_the_user_s_own_cache_folder_is_used(tmp_path):
    mine = {"PATH": os.environ["PATH"], "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "mine")}
    assert prepare(tmp_path, mine) == {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "mine")}


@pytest.fixture(scope="module")
def built(words):
    """The words, after a process of two threads has compiled what they ask for."""
    ended = sendnn(*words, "pipeline=precompile", "process.num_cpus=2", timeout=600)
    assert ended.returncode == 0 and "is warm after" in ended.stdout, ended.stdout + ended.stderr
    return words


ROWS = [[2, 11, 3], list(range(2, 62)), [2, 12, 13, 3]]


@pytest.mark.slow
def test_a_server_from_artifacts_at_more_threads_than_they_were_compiled_at(tiny, built):
    with Served(*built, "process.num_cpus=8", "artifacts.require=true") as served:
        info = served.get("/info").json()
        assert info["engine"]["threads"] == 8 and info["startup"]["programs_compiled"] == 0
        answer = served.client().embeddings.create(model=tiny.name, input=ROWS)
    assert np.allclose([row.embedding for row in answer.data], mean_pooled_ids(tiny, ROWS), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_at_as_many_threads_or_fewer(tiny, built, threads):
    with Embedder(*built, f"process.num_cpus={threads}", "artifacts.require=true") as embedder:
        assert np.allclose(embedder.embed(ROWS), mean_pooled_ids(tiny, ROWS), atol=1e-5)


ANYWHERE = """
import json, os, sys
from sendnn_pipeline import Embedder

with Embedder(*sys.argv[1:]) as embedder:
    vectors = embedder.embed([[2, 11, 3], list(range(2, 62)), [2, 12, 13, 3]]).tolist()
print(json.dumps([os.getuid(), "torch._dynamo" in sys.modules, vectors]))
"""


@pytest.mark.slow
def test_nobody_embeds_from_artifacts_on_a_machine_that_is_read_only(tiny, built, tmp_path):
    words = (*built, "artifacts.require=true", f"cache_dir={tmp_path}/cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "tmp").mkdir()
    ended = run_there(ANYWHERE, words, tmp_path / "tmp")
    assert ended.returncode == 0, ended.stderr
    uid, compiler, vectors = json.loads(ended.stdout.splitlines()[-1])
    assert uid == 54321 and not compiler and list(tmp_path.rglob("*")) == [tmp_path / "cache", tmp_path / "tmp"]
    assert np.allclose(vectors, mean_pooled_ids(tiny, ROWS), atol=1e-5)


@pytest.mark.slow
def test_an_artifact_that_does_not_fit_is_refused_with_the_reason(built, whole_run, in_process):
    refused = whole_run(*built, "pipeline=precompile", "artifacts.require=true", "engine.pooling=cls")
    assert refused.returncode == 1
    assert "have no artifacts and artifacts.require=true: pooling is mean" in refused.stderr
    assert "there and cls" in refused.stderr and "pipeline=precompile" in refused.stderr
    disabled = in_process(*built, "artifacts.enabled=false", "artifacts.require=true")
    assert disabled.returncode == 2 and "artifacts.require=true and artifacts.enabled=false" in disabled.stderr


@pytest.mark.slow
def test_a_store_that_is_mounted_noexec_is_named(built, artifacts, tmp_path):
    store, words = tmp_path / "store", [word for word in built if word != artifacts]
    store.mkdir()
    run = shlex.join(
        [sys.executable, "-m", "sendnn_pipeline", *words, f"artifacts.dir={store}", "artifacts.require=true"]
    )
    filled = f"mount -t tmpfs -o noexec,mode=0700 tmpfs {store} && cp -a {artifacts.partition('=')[2]}/. {store}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{filled} && {run}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=environment())
    assert ended.returncode == 1 and "cannot be opened: its file system is mounted noexec" in ended.stderr, ended.stderr
    assert "set artifacts.dir to a folder" in ended.stderr


@pytest.mark.slow
def test_the_catalog_lists_shows_verifies_and_prunes(built, artifacts, tmp_path, in_process):
    copy = tmp_path / "artifacts"
    for folder in Path(artifacts.partition("=")[2]).glob("pool-batch=1*len=8*"):
        shutil.copytree(folder, copy / folder.name)
    where, number = f"artifacts.dir={copy}", len(list(copy.iterdir()))
    listed = in_process("catalog", "list", where, COLUMNS="200").stdout
    assert "pool[batch=1..8,len=8..64]" in listed and f"{number} artifact" in listed
    digest = next(line.split()[0] for line in listed.splitlines() if "pool[" in line)
    shown = in_process("catalog", "show", digest[:6], where).stdout
    assert "torch         2.13" in shown and "program.so" in shown
    assert in_process("catalog", "verify", where).returncode == 0
    library = next(copy.glob("pool*/program.so"))
    library.write_bytes(library.read_bytes()[:-1] + b"x")
    damaged = in_process("catalog", "verify", where)
    assert damaged.returncode == 1 and "program.so is not what was published" in damaged.stdout
    assert f"{number - 1} artifact" in in_process("catalog", "prune", where).stdout
    assert "0 artifacts" in in_process("catalog", "prune", where, "artifacts.max_bytes=1").stdout
    none = in_process("catalog", "show", "ffff", where)
    assert none.returncode == 1 and "no artifacts have a digest" in none.stderr
