"""Leaving the trace, whatever the library makes of it, and dynamo's settings in it and after it."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from torch._dynamo import config as dynamo

from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.backends.sendnn.backend import SendnnBackend
from sendnn_pipeline.backends.sendnn.tracing import recompile_limit
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.messages import Part
from sendnn_pipeline.pipeline.rank import run_rank
from tests.backends.test_life_cycle import EdgePort

WORDS = ("warmup.shapes=[64x1]", "pipeline=precompile")


@pytest.fixture
def backend(tiny, card):
    """The backend of a run, its library imported."""
    card.resolve(f"model.path={tiny}", *WORDS)
    made = SendnnBackend(SendnnConfig(name="sendnn"))
    made._import()
    return made


class SaysItIsItsOwn:
    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return True


class FailsToo:
    def __enter__(self):
        return self

    def __exit__(self, *raised):
        raise RuntimeError("DtException: nothing to compile")


class Refuses:
    def __init__(self):
        raise RuntimeError("no such device")


@contextmanager
def as_a_function():
    yield


@pytest.mark.parametrize("mode", [SaysItIsItsOwn, FailsToo, as_a_function])
def test_what_fails_in_the_trace_is_what_is_raised(mode, backend, monkeypatch):
    monkeypatch.setattr(sys.modules["torch_sendnn"], "warmup_mode", mode)
    with pytest.raises(ZeroDivisionError), backend.tracing():
        raise ZeroDivisionError("of the model")
    assert not backend._is_tracing


@pytest.mark.parametrize(
    ("mode", "says"), [(FailsToo, "Spyre's compiler failed: RuntimeError: DtException"), (Refuses, "no such device")]
)
def test_a_library_that_fails_by_itself_is_blamed(mode, says, backend, monkeypatch):
    monkeypatch.setattr(sys.modules["torch_sendnn"], "warmup_mode", mode)
    with pytest.raises((BackendError, RuntimeError), match=says), backend.tracing():
        pass


def test_dynamo_s_limits_are_raised_in_the_trace_alone_and_never_lowered(backend):
    names = ("cache_size_limit", "accumulated_cache_size_limit")
    before = [getattr(dynamo, name) for name in names]
    with dynamo.patch(accumulated_cache_size_limit=100_000), backend.tracing():
        assert [getattr(dynamo, name) for name in names] == [160, 100_000]
    assert [getattr(dynamo, name) for name in names] == before


@pytest.mark.parametrize(("length", "limit"), [(64, 160), (256, 640), (32768, 81920)])
def test_the_limit_is_that_of_the_plugin_for_vllm(length, limit):
    assert recompile_limit(length) == limit == max(2 * (length - 64 + 1), 2.5 * length)


def test_what_a_library_says_of_its_limits_counts_where_they_are_known_to_be_filled_in(tiny, card):
    run = card.resolve(f"model.path={tiny}", "warmup.shapes=[64x1]").run
    import torch_sendnn

    unset = {"config": dict.fromkeys(("vllm_max_context_length", "vllm_max_batch_size"), "0")}
    state = SimpleNamespace(spyre_graph_cache=SimpleNamespace(deeptools_config=unset))
    setattr(torch_sendnn.backends.sendnn_backend, "__state", state)
    port = EdgePort([[2, 4, 5, 3]])
    run_rank(port, run, World())
    assert len(port.of(Part)) == 1
