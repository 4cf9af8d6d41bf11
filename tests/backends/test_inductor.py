"""Inductor for real: what it computes, that nothing compiles after warmup, and its checks before it starts."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.errors import BackendError, ConfigError
from tests.conftest import resolved_run
from tests.reference import mean_pooled
from tests.served import Served, sendnn

CODE = """
import json, sys
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.config.environment import process_environment
from sendnn_pipeline.messages import Submit, Vectors
from sendnn_pipeline.pipeline.rank import stages_to_warm
from sendnn_pipeline.pipeline.stage import run_stages
from sendnn_pipeline.pooling.batcher import Batcher
from sendnn_pipeline.pooling.engine import PoolingEngine
from tests.conftest import resolved_run

run = resolved_run(sys.argv[1:]).run
quiet = lambda event: None
inductor = InductorBackend()
warm = run_stages(stages_to_warm(run, inductor, inductor, quiet), run, quiet)
said = []
engine = PoolingEngine(warm.runner, Batcher(warm.costs, run.step_tokens), said.append)
for request_id, length in enumerate(range(1, 65)):
    for items in (1, 3):
        engine.submit(Submit(request_id * 10 + items, [[2 + length % 50] * length] * items, float("inf")))
    while engine.waiting:
        engine.step()
print(json.dumps({
    "compiled": sorted(name for name in sys.modules if name in ("torch._dynamo", "transformers", "sympy")),
    "vectors": sum(len(m.indices) for m in said if isinstance(m, Vectors)),
    "failed": [m.message for m in said if type(m).__name__ == "Refused"],
    "recompiles": engine.recompiles,
}))
"""


@pytest.mark.slow
def test_every_length_runs_and_from_artifacts_no_compiler_is_imported(tiny, tmp_path):
    import subprocess
    import sys

    from tests.served import ROOT, environment

    words = ["model=local", f"model.path={tiny}", "backend=inductor", "warmup.shapes=[8x1,64x4,8..64x1..4]"]
    words.append(f"cache_dir={tmp_path}")
    for start in ("cold", "from artifacts"):
        ended = subprocess.run(
            [sys.executable, "-c", CODE, *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout.splitlines()[-1])
        assert found["vectors"] == 64 * 4 and found["failed"] == [] and found["recompiles"] == 0
        # From artifacts no compiler is so much as imported, before or while every length is sent.
        assert bool(found["compiled"]) == (start == "cold")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_served_vectors_against_transformers(minilm, texts, dtype):
    words = ("model=minilm", "backend=inductor", f"model.dtype={dtype}")
    words += ("serve.request_timeout_seconds=280",)
    # CPUs that only emulate bfloat16 take a minute for a hundred texts.
    some = texts if dtype == "float32" else texts[:60]
    with Served(*words) as served:
        answer = served.client(timeout=300).embeddings.create(
            model="minilm", input=some, extra_body={"truncate_prompt_tokens": 256}
        )
    vectors = np.array([row.embedding for row in answer.data], dtype=np.float64)
    expected = mean_pooled(minilm, some)
    cosines = (vectors * expected).sum(axis=1)
    assert cosines.min() >= {"float32": 0.99999, "bfloat16": 0.995}[dtype]
    assert cosines.mean() >= {"float32": 0.99999, "bfloat16": 0.999}[dtype]


def prepare(tiny, tmp_path, environ):
    run = resolved_run(["model=local", f"model.path={tiny}", "backend=inductor", f"cache_dir={tmp_path}"]).run
    return InductorBackend().prepare(run, environ)


def test_a_missing_compiler_is_one_line(tiny):
    ended = sendnn("model=local", f"model.path={tiny}", "backend=inductor", CXX="no-such-compiler")
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert "no-such-compiler is not on PATH" in line and "backend=eager" in line and "load" not in ended.stdout


def test_a_cache_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "inductor").write_text("a file where the folder would be")
    with pytest.raises(BackendError, match=f"{tmp_path}/inductor cannot be written"):
        prepare(tiny, tmp_path, {"PATH": os.environ["PATH"]})


def test_frozen_programs_that_do_not_fit_are_refused(tiny, tmp_path):
    weights = tmp_path / "model"
    weights.mkdir()
    for file in tiny.rglob("*"):
        if file.is_file():
            target = weights / file.relative_to(tiny)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    # Sparse: a size on paper, no block on the disk.
    os.truncate(weights / "model.safetensors", 2**40)
    words = ["model=local", f"model.path={weights}", "backend=inductor"]
    resolved_run(words)
    with pytest.raises(ConfigError, match=r"copies of the weights.*use fewer warmup shapes"):
        resolved_run([*words, "backend.freezing=true", "warmup.shapes=[64x4]"])


def test_the_user_s_own_cache_folder_is_kept(tiny, tmp_path):
    mine = {"PATH": os.environ["PATH"], "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "mine")}
    assert prepare(tiny, tmp_path, mine) == {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "mine")}


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory):
    """A cache folder with the artifacts of the tiny model, built at two threads."""
    folder = tmp_path_factory.mktemp("built")
    words = (*ARTIFACT_WORDS, f"model.path={tiny}", f"cache_dir={folder}", "process.num_cpus=2")
    ended = sendnn(*words, "pipeline=precompile", timeout=300)
    assert ended.returncode == 0 and "compiled: none is kept of this Program" in ended.stdout, ended.stderr
    return folder


ARTIFACT_WORDS = ("model=local", "backend=inductor", "warmup.shapes=[8..64x1..8]")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_library_built_at_one_thread_count_runs_at_others(tiny, built, threads):
    rows = [[2, 11, 3], list(range(2, 62)), [2, 12, 13, 3]]
    words = (*ARTIFACT_WORDS, f"model.path={tiny}", f"cache_dir={built}", f"process.num_cpus={threads}")
    with Served(*words, "artifacts.require=true") as served:
        info = served.get("/info").json()
        assert info["engine"]["threads"] == threads and info["startup"]["programs_compiled"] == 0
        answer = served.client().embeddings.create(model=tiny.name, input=rows)
    model = AutoModel.from_pretrained(tiny).eval()
    for row, given in zip(answer.data, rows, strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([given])).last_hidden_state[0].mean(dim=0).numpy()
        assert np.allclose(row.embedding, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.slow
def test_an_artifact_that_does_not_fit_is_compiled_anew_or_refused_with_the_reason(tiny, built):
    words = (*ARTIFACT_WORDS, f"model.path={tiny}", f"cache_dir={built}", "pipeline=precompile")
    refused = sendnn(*words, "artifacts.require=true", "engine.pooling=cls")
    assert refused.returncode == 1
    assert "has no artifact and artifacts.require=true: pooling is mean" in refused.stderr
    assert "there and cls" in refused.stderr and "pipeline=precompile" in refused.stderr
    unkept = sendnn(*words, "artifacts.enabled=false", "artifacts.require=true")
    assert unkept.returncode == 2 and "artifacts.require=true and artifacts.enabled=false" in unkept.stderr


def test_the_catalog_lists_shows_verifies_and_prunes(built, tmp_path):
    copy = tmp_path / "artifacts"
    shutil.copytree(built / "artifacts", copy)
    where = f"artifacts.dir={copy}"
    listed = sendnn("catalog", "list", where).stdout
    assert "pool[batch=1..8" in listed and "2 artifacts" in listed
    digest = next(line.split()[0] for line in listed.splitlines() if "pool[" in line)
    shown = sendnn("catalog", "show", digest[:6], where).stdout
    assert "torch         2.13" in shown and "program.so" in shown
    assert sendnn("catalog", "verify", where).returncode == 0
    library = next(copy.glob("pool*/program.so"))
    library.write_bytes(library.read_bytes()[:-1] + b"x")
    damaged = sendnn("catalog", "verify", where)
    assert damaged.returncode == 1 and "program.so is not what was published" in damaged.stdout
    assert "1 artifacts" in sendnn("catalog", "prune", where).stdout
    assert "0 artifacts" in sendnn("catalog", "prune", where, "artifacts.max_bytes=1").stdout
    none = sendnn("catalog", "show", "ffff", where)
    assert none.returncode == 1 and "0 artifacts have a digest" in none.stderr
