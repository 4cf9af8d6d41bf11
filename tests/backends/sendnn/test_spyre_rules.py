"""The rules of the device: a run that keeps them all, and each of them broken on purpose, which the emulator sees."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.fx.experimental import _config as shapes_config

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.backends.sendnn import backend as sendnn_backend
from sendnn_pipeline.backends.sendnn import environment, program
from sendnn_pipeline.errors import BackendError, PipelineError
from sendnn_pipeline.generation.device.core import DeviceCore
from sendnn_pipeline.messages import Part, Ready, RequestFailed, StageEvent
from sendnn_pipeline.pipeline.warmup import Warmup
from sendnn_pipeline.pooling import runner
from tests.emulators.install import HERE

SHAPES = "warmup.shapes=[64x1,64x2]"
TEXT = [2, 4, 5, 3]


def words(tiny, *more):
    return f"model.path={tiny}", SHAPES, *more


def test_a_run_keeps_every_rule(tiny, card, handlers):
    before = handlers()
    port = card.run(*words(tiny), requests=[TEXT, TEXT])
    first, second = port.of(Part, RequestFailed)
    assert isinstance(first, Part) and first.payload == second.payload
    device = card.device
    assert device.compiled == 1 and len(device.deployed) == 2 and device.dynamic is False and not device.to_deploy
    assert handlers() == before
    stages = [event.stage for event in port.of(StageEvent) if event.state == "finished" and event.program]
    assert stages == ["compile"] * 2 + ["trace"] * 2 + ["deploy"] * 2 + ["warmup"] * 2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2


def untraced(self):
    self._import()
    return nullcontext()


def in_other_order(self, what, core, runs, *, check):
    order = reversed(list(runs.items())) if what == "deploy" else runs.items()
    return run_each(self, what, core, dict(order), check=check)


def again_at_once(self, what, core, runs, *, check):
    for one, step in runs.items():
        core.rehearse(one, step.sizes, check=check)
        core.rehearse(one, step.sizes, check=check)
    return dict.fromkeys(runs, 0.0)


def checked_while_traced(self, what, core, runs, *, check):
    return run_each(self, what, core, runs, check=True)


def not_deployed(self, what, core, runs, *, check):
    return run_each(self, what, core, runs, check=check) if what == "trace" else dict.fromkeys(runs, 0.0)


def made_and_not_entered(self):
    self._import().warmup_mode()
    return nullcontext()


def variables_without(name, text=None):
    def device_variables(*arguments, **more):
        variables = computed(*arguments, **more)
        return {**variables, name: text} if text else {n: t for n, t in variables.items() if n != name}

    computed = environment.device_variables
    return device_variables


class TorchWith:
    """Torch as a module sees it, but for the context in which its steps run."""

    def __init__(self, no_grad):
        self.no_grad = no_grad

    def __getattr__(self, name):
        return getattr(torch, name)


run_each, pad = Warmup._run_each, runner.pad
TRACING = (sendnn_backend.SendnnBackend, "tracing")
VARIABLES = (sendnn_backend, "device_variables")
ORDER = (Warmup, "_run_each")
LIMITS = (sendnn_backend, "LIMITS")
BROKEN = {
    "never in warmup mode": (TRACING, untraced, (), "outside warmup_mode"),
    "warmup mode not entered": (TRACING, made_and_not_entered, (), "made and not entered"),
    "another order": (ORDER, in_other_order, (), "another order than they were traced"),
    "twice before all are deployed": (ORDER, again_at_once, (), "another order than they were traced"),
    "outputs of warmup": (ORDER, checked_while_traced, (), "not finite"),
    "not deployed": (ORDER, not_deployed, (), "another order than they were traced"),
    "no marks": ((program, "mark"), lambda *_: None, (), "is not marked static"),
    "inference mode": ((runner, "torch"), TorchWith(torch.inference_mode), (), "(?i)inference mode"),
    "gradients": ((runner, "torch"), TorchWith(torch.enable_grad), (), "gradients"),
    "another dtype": (LIMITS, Limits(token_multiple=64), ("model.dtype=float32",), "is torch.float32"),
    "odd lengths": (LIMITS, replace(sendnn_backend.LIMITS, token_multiple=1), ("warmup.shapes=[48x1]",), "of 64"),
    "the mode of decoders": (VARIABLES, variables_without("COMPILATION_MODE", "offline_decoder"), (), "need offline"),
    "the frames of decoders": (VARIABLES, variables_without("FLEX_OVERWRITE_NMB_FRAME", "true"), (), "need false"),
    "a batch above": (VARIABLES, variables_without("VLLM_DT_MAX_BATCH_SIZE", "1"), (), "BATCH_SIZE is below 2"),
    "a length above": (VARIABLES, variables_without("VLLM_DT_MAX_CONTEXT_LEN", "32"), (), "above the limits"),
    "no limit of tokens": (VARIABLES, variables_without("VLLM_DT_MAX_BATCH_TKV_LIMIT"), (), "imported without"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_ends_the_run(rule, tiny, card, monkeypatch):
    (owner, name), replacement, more, says = BROKEN[rule]
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(Exception, match=says):
        card.run(*words(tiny, *more))
    assert "torch_sendnn" not in sys.modules or len(card.device.deployed) < 2


def test_a_call_that_would_compile_fails_alone(tiny, card, monkeypatch):
    def pad_otherwise(*arguments):
        ids, mask = pad(*arguments)
        return ids, mask.bool()

    def before(request_id):
        monkeypatch.setattr(runner, "pad", pad_otherwise if request_id == 1 else pad)

    port = card.run(*words(tiny), requests=[TEXT, TEXT, TEXT], before=before)
    first, failed, last = port.of(Part, RequestFailed)
    assert isinstance(first, Part) and isinstance(last, Part) and first.payload == last.payload
    assert isinstance(failed, RequestFailed) and "recompile" in failed.detail
    assert card.device.compiled == 1


def test_signals_that_the_runtime_took_are_put_back_by_the_backend(tiny, card, monkeypatch, handlers):
    before = handlers()
    monkeypatch.setattr(sendnn_backend, "put_back", lambda found: None)
    card.run(*words(tiny))
    assert all(handler.__name__ == "fatal_signal" for handler in handlers())
    monkeypatch.undo()
    assert before != handlers()


def test_what_the_card_does_not_hold_is_out_of_memory_there(tiny, card):
    with pytest.raises(BackendError, match="Spyre's compiler failed: DeviceError: out of device memory"):
        card.run(*words(tiny), TORCH_SENDNN_EMULATED_CARD_BYTES="1000")


def test_disable_compilation_takes_what_the_library_keeps_and_nothing_else(tiny, card, tmp_path):
    cache = tmp_path / "kept" / "by the library"
    keeping = {"TORCH_SENDNN_CACHE_ENABLE": "1", "TORCH_SENDNN_CACHE_DIR": str(cache)}
    disabled = {**keeping, "DISABLE_COMPILATION": "true"}
    with pytest.raises(BackendError, match="Spyre's compiler failed: RuntimeError: Compilation disabled"):
        card.run(*words(tiny), **disabled)
    in_new_process(card)
    card.run(*words(tiny), **keeping)
    assert len(list(cache.glob("[!.]*/manifest.json"))) == 1
    in_new_process(card)
    port = card.run(*words(tiny), requests=[TEXT], **disabled)
    assert card.device.cache_hits == 1 and not card.device.compiled and len(port.of(Part)) == 1


def in_new_process(card):
    from tests.backends.sendnn.conftest import forget_emulator

    forget_emulator()


def test_what_only_compiles_runs_nothing(tiny, card, tmp_path, monkeypatch):
    only = words(tiny, "backend=sendnn_compile_only", "pipeline=precompile")
    keeping = {"TORCH_SENDNN_CACHE_ENABLE": "1", "TORCH_SENDNN_CACHE_DIR": str(tmp_path / "kept")}
    port = card.run(*only, **keeping)
    assert card.device.compiled == 1 and not card.device.deployed and card.device.environment.compiles_only
    (ready,) = port.of(Ready)
    assert not ready.steps
    in_new_process(card)
    limits = replace(sendnn_backend.LIMITS, runs=True)
    monkeypatch.setattr(sendnn_backend, "replace", lambda *_, **__: limits)
    with pytest.raises(RuntimeError, match="there is no card"):
        card.run(*only, **keeping)


def test_static_and_dynamic_graphs_do_not_share_a_process(tiny, card):
    card.run(*words(tiny))
    from torch_sendnn.errors import DeviceError

    card.device.to_deploy.clear()
    card.device.warming = card.device.entered = True
    graph = type("Graph", (), {"dynamic": True, "module": SimpleNamespace(graph=SimpleNamespace(nodes=[]))})()
    with pytest.raises(DeviceError, match="decoders need offline_decoder"):
        card.device.trace(graph)
    card.device.environment.check_complete = lambda *, dynamic: None
    with pytest.raises(DeviceError, match="static and dynamic graphs in one process"):
        card.device.trace(graph)


def test_the_environment_is_read_at_import_and_a_late_change_is_told(tiny, card, monkeypatch):
    card.run(*words(tiny))
    # What a second run in the process would ask for is another length.
    monkeypatch.setenv("VLLM_DT_MAX_CONTEXT_LEN", "128")
    with pytest.raises(PipelineError, match=r"imported with VLLM_DT_MAX_CONTEXT_LEN=64, and this run needs 128"):
        sendnn_backend.SendnnBackend(card.resolve(*words(tiny)).run.config.backend)
        # Of generation with a cache, what it found is known to be filled in.
        late = {"VLLM_DT_MAX_CONTEXT_LEN": "128", "COMPILATION_MODE": "offline_decoder"}
        for name, text in (late | {"TORCH_SENDNN_CACHE_ENABLE": "1"}).items():
            monkeypatch.setenv(name, text)
        from sendnn_pipeline.backends.sendnn.runtime import import_runtime

        import_runtime("sendnn")
    # A library that does not say what it found is believed.
    import torch_sendnn

    delattr(torch_sendnn.backends.sendnn_backend, "__state")
    assert import_runtime("sendnn") is torch_sendnn


def test_the_emulator_knows_nothing_of_whom_it_serves():
    code = f"import sys; sys.path.insert(0, {str(HERE / 'torch_sendnn')!r}); import torch_sendnn; "
    code += "print(sorted(name for name in sys.modules if 'pipeline' in name))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
    assert not [file for file in (HERE / "torch_sendnn").rglob("*.py") if "sendnn_pipeline" in file.read_text()]


@pytest.mark.parametrize("where", ["before", "within"])
def test_what_fails_while_it_is_traced_leaves_nothing_on(where, llama, card, monkeypatch):
    """Of the first Program, so that leaving has nothing to compile, and of the second, so that it has."""

    def rehearse(self, program, sizes, *, check):
        if where == "before" or program.function == "decode":
            raise RuntimeError("a model that fails")
        return rehearsed(self, program, sizes, check=check)

    rehearsed = DeviceCore.rehearse
    monkeypatch.setattr(DeviceCore, "rehearse", rehearse)
    with pytest.raises(RuntimeError, match="a model that fails"):
        card.run(f"model.path={llama}", "scheduler.chunk_size=64")
    device = card.device
    assert not device.warming and not device.traced and device.compiled == (where == "within")
    assert not shapes_config.backed_size_oblivious
