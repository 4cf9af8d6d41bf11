"""Another emulator of the same rules, strict and bare: what is not a rule of the device is not relied on."""

import numpy as np
import pytest
from torch._dynamo.backends import registry

from sendnn_pipeline import Embedder
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.messages import Part, Ready
from sendnn_pipeline.pipeline.rank import run_rank
from tests.backends.sendnn.conftest import Card, emulated, forget_emulator
from tests.backends.sendnn.test_spyre_generation import Port, greedy, prompts_of
from tests.backends.sendnn.test_spyre_known import (
    GENERATING,
    POOLING,
    SMALL,
    model_of,
    one_of_each_kind,
    words_of,
)
from tests.backends.sendnn.test_spyre_pooling import ATOL, TEXTS
from tests.emulators.install import HERE
from tests.served import EAGER_FLOAT32, Served

__all__ = ["model_of"]
STRICT = HERE / "torch_sendnn_strict"
REGISTRATION = "TORCH_SENDNN_EMULATED_REGISTRATION"
POINTS = "[torch_dynamo_backends]\n" + "".join(
    f"{name} = torch_sendnn._graph:{name}\n" for name in ("sendnn", "sendnn_compile_only")
)
KEPT = "TORCH_SENDNN_CACHE_DIR"


class StrictCard(Card):
    @property
    def device(self):
        import sys

        return sys.modules["torch_sendnn._card"].card


@pytest.fixture
def strict(tmp_path, monkeypatch):
    with emulated(monkeypatch, str(STRICT)):
        yield StrictCard(monkeypatch, tmp_path)


@pytest.mark.parametrize("registered", ["import", "old style", "entry points"])
def test_the_dynamo_backend_is_found_however_it_is_registered(registered, tiny, strict, tmp_path, monkeypatch):
    if registered == "entry points":
        (info := tmp_path / "site" / "runtime-1.dist-info").mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: runtime\nVersion: 1\n")
        (info / "entry_points.txt").write_text(POINTS)
        monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("sendnn", "sendnn_compile_only"):
        registry._BACKENDS.pop(name, None)
        registry._COMPILER_FNS.pop(name, None)
    for function in (registry._discover_entrypoint_backends, registry._lazy_import):
        function.cache_clear()
    port = strict.run(f"model.path={tiny}", requests=[[2, 4, 5, 3]], **{REGISTRATION: registered})
    assert len(port.of(Part)) == 1 and len(strict.device.ready) == 1


def test_vectors_are_those_of_eager(tiny, strict):
    with Embedder(*EAGER_FLOAT32, f"model.path={tiny}") as eager:
        expected = eager.embed(TEXTS)
    words = ("model=local", "process.override_signal_handlers=false", f"cache_dir={strict.cache_dir}")
    with Embedder(*words, "backend=sendnn", f"model.path={tiny}", "warmup.shapes=[64x1,64x2,64x4]") as spyre:
        np.testing.assert_allclose(spyre.embed(TEXTS), expected, atol=ATOL)
    assert strict.device.compilations == 1 and len(strict.device.ready) == 3


@pytest.mark.parametrize(
    "sizes",
    [
        ("scheduler.chunk_size=128", "scheduler.max_num_seqs=4"),
        ("scheduler.chunk_size=64", "scheduler.max_num_seqs=1"),
        ("scheduler.chunk_size=192", "scheduler.max_num_seqs=3", "backend.max_batch_tkv=300"),
    ],
)
def test_tokens_are_transformers_own(sizes, llama, strict):
    prompts = prompts_of(1, 64, 65, 129, 200)
    shared = [prompts[4][:128] + prompts[0], prompts[4][:128] + prompts[1][:20]]
    port = Port([*prompts, *shared])
    run_rank(port, strict.resolve(f"model.path={llama}", *sizes).run, World())
    assert not port.failures() and len(port.tokens()) == 7
    for index, found in port.tokens().items():
        wanted, margins = greedy(llama, [*prompts, *shared][index])
        sure = next((place for place, margin in enumerate(margins) if margin < 0.02), len(margins))
        assert found[:sure] == wanted[:sure]
    assert len(strict.device.ready) == 2 and not strict.device.pending


@pytest.mark.parametrize("name", one_of_each_kind(POOLING))
def test_a_known_pooling_model_is_traced_deployed_and_served(name, tmp_path, model_of, strict):
    port = strict.run(*words_of(name, tmp_path, model_of(name), SMALL["warmup.shapes"]), requests=[[0, 5, 6, 2]])
    assert [part.program for part in port.of(Part)] == ["pool[batch=2,len=64]"]


@pytest.mark.parametrize("name", one_of_each_kind(GENERATING))
def test_a_known_decoder_is_traced_deployed_and_served(name, tmp_path, model_of, strict):
    words = words_of(name, tmp_path, model_of(name), SMALL["scheduler.max_num_seqs"])
    port = Port([[5, 6, 7]], max_tokens=2)
    run_rank(port, strict.resolve(*words, "backend.any_architecture=true").run, World())
    assert not port.failures() and len(port.tokens()[0]) == 2


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_what_is_compiled_without_a_card_is_served_again_and_again(kind, tiny, llama, strict, tmp_path):
    model = tiny if kind == "encoder" else llama
    words = (f"model.path={model}", *(() if kind == "encoder" else ("scheduler.chunk_size=64",)))
    keeping = {"TORCH_SENDNN_CACHE_ENABLE": "1", KEPT: str(tmp_path / "kept")}
    only = ("backend=sendnn_compile_only", "pipeline=precompile")
    (ready,) = strict.run(*words, *only, **keeping).of(Ready)
    assert not ready.steps and strict.device.compilations == 1 and not strict.device.ready
    for _ in range(3):
        forget_emulator()
        strict.run(*words, "pipeline=precompile", "artifacts.require=true", **keeping)
        assert (strict.device.hits, strict.device.compilations) == (1, 0)
    forget_emulator()
    with pytest.raises(BackendError, match="Spyre's compiler failed: RuntimeError: Compilation disabled"):
        strict.run(*words, "pipeline=precompile", DISABLE_COMPILATION="true", **keeping | {KEPT: str(tmp_path / "new")})


def test_a_server_answers_and_drains(tiny, tmp_path):
    words = ("model=local", f"model.path={tiny}", "backend=sendnn", f"cache_dir={tmp_path}")
    with Served(*words, PYTHONPATH=str(STRICT)) as served:
        assert len(served.post("/v1/embeddings", json={"input": TEXTS}).json()["data"]) == len(TEXTS)
        served.terminate()
        assert served.exit_code() == 0, served.output


def test_neither_emulator_knows_the_other_or_whom_it_serves():
    strict, ours = (
        "".join(file.read_text() for file in sorted((HERE / name).rglob("*.py")))
        for name in ("torch_sendnn_strict", "torch_sendnn")
    )
    assert "sendnn_pipeline" not in strict and "_strict" not in ours
    # What the bare one lacks is what nothing may rely on.
    assert not any(word in strict for word in ("__version__", "__state", "deeptools_config"))
