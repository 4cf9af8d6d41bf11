"""Trace, deploy, seal: the life cycle of a run's Programs, with a backend that compiles when a Program first runs."""

import math
import os
import time
from contextlib import contextmanager

import msgspec
import pytest
import torch

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.messages import Drain, Part, Ready, Request, RequestFailed, StageEvent, StepDone
from sendnn_pipeline.pipeline.rank import run_rank
from sendnn_pipeline.pooling import runner
from sendnn_pipeline.pooling.messages import PoolingRequest
from tests.conftest import resolved_run
from tests.emulators.install import install

SMALL, LARGE = "pool[batch=2,len=16]", "pool[batch=4,len=32]"
TEXT = [2, 4, 5, 3]


class EdgePort:
    """The engine's port, with requests that are sent one after the other once it is ready."""

    def __init__(self, requests, before=lambda request_id: None) -> None:
        self.sent, self.requests, self.before, self.num_asked = [], list(requests), before, 0

    def send(self, message) -> None:
        self.sent.append(message)

    def receive(self, timeout_seconds, wake):
        time.sleep(0.01)
        if len(self.of(Part, RequestFailed)) < self.num_asked:
            return []
        if self.num_asked == len(self.requests):
            return [Drain()]
        request_id, token_ids = self.num_asked, self.requests[self.num_asked]
        self.before(request_id)
        self.num_asked += 1
        payload = msgspec.Raw(msgspec.msgpack.encode(PoolingRequest([token_ids])))
        return [Request(request_id, math.inf, payload)]

    def of(self, *kinds):
        return [message for message in self.sent if isinstance(message, kinds)]


@pytest.fixture
def jit(tmp_path, monkeypatch):
    """The module of ``backend=jit``, installed in this process; what it seals is opened again."""
    for path in reversed(install("jit_backend", tmp_path / "site").split(os.pathsep)):
        monkeypatch.syspath_prepend(path)
    from jit_backend import backend

    threads = torch.get_num_threads()
    yield backend
    torch.compiler.set_stance("default")
    torch._dynamo.reset()
    torch.set_num_threads(threads)


def run_of(tiny, tmp_path, *words):
    words = (*words, "backend.compiler=aot_eager", f"cache_dir={tmp_path}", "model=local", f"model.path={tiny}")
    # The engine is in this process, whose signals are not its own.
    mine = ("process.override_signal_handlers=false", "warmup.shapes=[16x2,32x4]")
    return resolved_run(["backend=jit", "model.dtype=float32", *mine, *words]).run


def graphs_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_programs_are_traced_together_then_deployed_then_sealed(tiny, tmp_path, jit, monkeypatch):
    log = []

    @contextmanager
    def tracing(self):
        log.append("trace")
        before = graphs_compiled()
        yield
        log.append(f"{graphs_compiled() - before} compiled")

    def bind(self, weights):
        def call(*inputs):
            log.append(tuple(inputs[0].shape))
            assert not torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
            return self.call(*inputs)

        return call

    sealed = jit.JitBackend.seal

    def seal(self):
        log.append("seal")
        sealed(self)

    monkeypatch.setattr(jit.JitBackend, "tracing", tracing)
    monkeypatch.setattr(jit.JitBackend, "seal", seal)
    monkeypatch.setattr(jit.JitProgram, "bind", bind)
    port = EdgePort([])
    run_rank(port, run_of(tiny, tmp_path, "pipeline=precompile"), World())
    assert log[:4] == ["trace", (2, 16), (4, 32), "2 compiled"]
    deployed, measured = log[4:6], log[6:-1]
    assert deployed == [(2, 16), (4, 32)] and log[-1] == "seal"
    assert measured == [(2, 16)] * measured.count((2, 16)) + [(4, 32)] * measured.count((4, 32))
    (ready,) = port.of(Ready)
    assert {step.program for step in ready.steps} == {SMALL, LARGE} and ready.measured
    stages = [(event.stage, event.program) for event in port.of(StageEvent) if event.state == "finished"]
    programs = [(stage, program) for stage in ("trace", "deploy", "warmup") for program in (SMALL, LARGE)]
    compiled = [("compile", SMALL), ("compile", LARGE), ("compile", "")]
    assert stages == [("load", ""), *compiled, *programs, ("warmup", "")]
    assert not (tmp_path / "artifacts").exists()


def test_a_call_that_would_compile_once_sealed_fails_alone(tiny, tmp_path, jit, monkeypatch):
    pad = runner.pad

    def pad_otherwise(*arguments):
        ids, mask = pad(*arguments)
        return ids, mask.float()

    def before(request_id):
        # What no request can do: an input of another dtype than the Program was compiled for.
        monkeypatch.setattr(runner, "pad", pad_otherwise if request_id == 1 else pad)
        compiled.append(graphs_compiled())

    compiled = []
    port = EdgePort([TEXT, TEXT, TEXT], before)
    run_rank(port, run_of(tiny, tmp_path), World())
    first, failed, last = port.of(Part, RequestFailed)
    assert isinstance(first, Part) and isinstance(last, Part) and first.payload == last.payload
    # Which Program runs is the batcher's choice, by what it measured.
    assert isinstance(failed, RequestFailed) and failed.detail.startswith(f"{first.program} failed: ")
    assert "recompile" in failed.detail
    assert [step.recompiles for step in port.of(StepDone)] == [0, 1, 1]
    assert compiled == [graphs_compiled()] * 3
