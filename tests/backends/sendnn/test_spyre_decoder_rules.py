"""Each rule of the device for decoders broken on purpose, which the emulator sees."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.fx.experimental import _config as shapes_config

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.backends.sendnn import backend as sendnn_backend
from sendnn_pipeline.backends.sendnn import program
from sendnn_pipeline.backends.sendnn.environment import BATCH, CHUNK, CONTEXT, FLEX_DEVICE, FRAME, MODE, TKV_LIMIT
from sendnn_pipeline.generation.device import runner
from sendnn_pipeline.generation.device.decoder import WholeDecoder
from sendnn_pipeline.generation.device.runner import DeviceRunner
from tests.backends.sendnn.test_spyre_generation import Port, generate, prompts_of
from tests.backends.sendnn.test_spyre_rules import (
    LIMITS,
    ORDER,
    SHAPES,
    TRACING,
    VARIABLES,
    TorchWith,
    again_at_once,
    checked_while_traced,
    in_other_order,
    made_and_not_entered,
    not_deployed,
    untraced,
    variables_without,
)

RUN = (DeviceRunner, "_run")
run = DeviceRunner._run
forward = WholeDecoder.forward


def with_inputs(change):
    """Run with inputs that ``change`` makes of ids, positions, slots, block table, and both masks."""

    def changed(self, function, inputs, *, counts):
        return run(self, function, change(*inputs), counts=counts)

    return changed


def cut_tokens(ids, positions, slots, *others):
    """Half a chunk; of a decode nothing."""
    tokens = max(1, ids.shape[1] // 2)
    return ids[:, :tokens].clone(), positions[:, :tokens].clone(), slots[:, :tokens].clone(), *others


def two_rows(*inputs):
    return tuple(tensor.repeat(2, *[1] * (tensor.dim() - 1)) for tensor in inputs)


def rebound_while_traced(self, function, inputs, *, counts):
    return run(self, function, inputs, counts=True)


def half_rebound(self, function, inputs, *, counts):
    before = self.caches
    logits = run(self, function, inputs, counts=counts)
    if counts:
        self.caches = [self.caches[0], *before[1:]]
    return logits


def computed_in_the_graph(self, ids, positions, slots, *others):
    return forward(self, ids, positions, slots + 0, *others)


class TorchCompiling:
    """Torch as a module sees it, but for what graphs are compiled with."""

    def __init__(self, options):
        self.options = options

    def compile(self, module, *, backend, **_):
        return torch.compile(module, fullgraph=True, backend=backend, options=self.options)

    def __getattr__(self, name):
        return getattr(torch, name)


@contextmanager
def entered_twice(self):
    with self._import().warmup_mode(), self._import().warmup_mode():
        yield


@contextmanager
def a_second_time(self):
    with self._import().warmup_mode():
        pass
    self._runtime.device.to_deploy.append("what another warmup left")
    with self._import().warmup_mode():
        yield


@contextmanager
def never_left(self):
    self.left_open = self._import().warmup_mode()
    shapes_config.backed_size_oblivious = True
    self.left_open.__enter__()
    yield


def set_too_late(self):
    import os

    self._import()
    os.environ["FLEX_HDMA_P2PSIZE"] = "1"
    return tracing(self)


def oblivious_for_ever(_environ, *, dynamic):
    shapes_config.backed_size_oblivious = dynamic
    return nullcontext()


tracing = sendnn_backend.SendnnBackend.tracing
BROKEN = {
    "never in warmup mode": (TRACING, untraced, "outside warmup_mode"),
    "warmup mode not entered": (TRACING, made_and_not_entered, "made and not entered"),
    "warmup mode in itself": (TRACING, entered_twice, "not re-entrant"),
    "warmup mode twice": (TRACING, a_second_time, "warmup_mode a second time"),
    "warmup mode never left": (TRACING, never_left, "not finite"),
    "another order": (ORDER, in_other_order, "another order than they were traced"),
    "twice before all are deployed": (ORDER, again_at_once, "another order than they were traced"),
    "not deployed": (ORDER, not_deployed, "another order than they were traced"),
    "logits of warmup": (ORDER, checked_while_traced, "not finite"),
    "caches of warmup": (RUN, rebound_while_traced, "not finite"),
    "half of the caches rebound": (RUN, half_rebound, "KV tensor"),
    "half a chunk": (RUN, with_inputs(cut_tokens), "a prefill of 1 x 64, and it takes one chunk of 128"),
    "two prompts in a prefill": (RUN, with_inputs(two_rows), "a prefill of 2 x 128"),
    "padding of part of a block": (
        RUN,
        with_inputs(lambda *all: (*all[:5], all[5] + 1)),
        "left padding that is not in whole blocks",
    ),
    "a table that is too short": (
        RUN,
        with_inputs(lambda *all: (*all[:3], all[3][:, :1].clone(), all[4] + 64, all[5])),
        "a block table of 1 blocks for",
    ),
    "masks of other rows": (
        RUN,
        with_inputs(lambda *all: (*all[:4], all[4].repeat(2), all[5].repeat(2))),
        "masks and block table have other rows",
    ),
    "integers of another size": (RUN, with_inputs(lambda *all: (*all[:3], all[3].int(), *all[4:])), "int64"),
    "slots of the graph's own": ((WholeDecoder, "forward"), computed_in_the_graph, "slot_mapping of .* is computed"),
    "inference mode": ((runner, "torch"), TorchWith(torch.inference_mode), "(?i)inference mode"),
    "gradients": ((runner, "torch"), TorchWith(torch.enable_grad), "gradients"),
    "another dtype": (LIMITS, Limits(token_multiple=64), "is torch.float32"),
    "compiled as static": ((program, "torch"), TorchCompiling({}), "sendnn.dynamic is for decoders"),
    "an unknown option": ((program, "torch"), TorchCompiling({"sendnn.fast": 1}), "unknown options"),
    "a variable too late": (TRACING, set_too_late, "FLEX_HDMA_P2PSIZE was None when torch_sendnn was imported"),
    "sizes of one for ever": ((sendnn_backend, "tracing_settings"), oblivious_for_ever, "is for warmup, and only"),
    "the mode of encoders": (VARIABLES, variables_without(MODE, "offline"), "need offline_decoder"),
    "the frames of encoders": (VARIABLES, variables_without(FRAME, "false"), "need true"),
    "no chunk": (VARIABLES, variables_without(CHUNK), "VLLM_DT_CHUNK_LEN is not set"),
    "an odd chunk": (VARIABLES, variables_without(CHUNK, "100"), "not a multiple of 64"),
    "another chunk": (VARIABLES, variables_without(CHUNK, "256"), "it takes one chunk of 256"),
    "more rows": (VARIABLES, variables_without(BATCH, "2"), "more than VLLM_DT_MAX_BATCH_SIZE"),
    "more tokens": (VARIABLES, variables_without(CONTEXT, "128"), "above the 128 of VLLM_DT_MAX_CONTEXT_LEN"),
    "a larger rectangle": (VARIABLES, variables_without(TKV_LIMIT, "512"), "above VLLM_DT_MAX_BATCH_TKV_LIMIT=512"),
}


@pytest.fixture
def sizes_as_they_were():
    before = shapes_config.backed_size_oblivious
    yield
    shapes_config.backed_size_oblivious = before


@pytest.mark.usefixtures("sizes_as_they_were")
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_ends_the_run(rule, llama, card, monkeypatch):
    (owner, name), replacement, says = BROKEN[rule]
    monkeypatch.setattr(owner, name, replacement)
    words = ("model.dtype=float32",) if rule == "another dtype" else ()
    with pytest.raises(Exception, match=says):
        generate(card, Port(prompts_of(5)), llama, *words)


def test_a_graph_of_an_encoder_is_not_compiled_as_a_decoder_s(tiny, card, monkeypatch):
    monkeypatch.setattr(program, "torch", TorchCompiling({"sendnn.dynamic": True}))
    with pytest.raises(Exception, match=r"sendnn\.dynamic is for decoders"):
        card.run(f"model.path={tiny}", SHAPES)


def test_compiling_without_a_card_is_told_to_the_runtime(tiny, card, monkeypatch):
    monkeypatch.setattr(*VARIABLES, variables_without(FLEX_DEVICE))
    with pytest.raises(Exception, match="sendnn_compile_only needs FLEX_DEVICE=COMPILE"):
        card.run(f"model.path={tiny}", SHAPES, "backend=sendnn_compile_only", "pipeline=precompile")


def test_there_are_two_dynamic_graphs_whatever_the_sizes(llama, card):
    generate(card, Port(prompts_of(5)), llama)
    device = card.device
    device.warming = device.entered = True
    device.traced = [object(), object()]
    empty = torch.fx.GraphModule({}, torch.fx.Graph())
    graph = type("Graph", (), {"dynamic": True, "module": empty})()
    with pytest.raises(Exception, match="a third dynamic graph"):
        device.trace(graph)
