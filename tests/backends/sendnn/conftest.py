"""A run on the emulated card, in the test's own process and thread."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from sendnn_pipeline.app.engine_environment import engine_environment
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.pipeline.rank import run_rank
from tests.backends.test_life_cycle import EdgePort
from tests.conftest import clean_environ, make_tiny, resolved_run
from tests.emulators.install import install
from tests.in_process import signals_restored

EMULATOR = "torch_sendnn"


def forget_emulator() -> None:
    """Have the next run import it, and what it found in its environment, anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == EMULATOR]:
        del sys.modules[name]
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


class Card:
    """The emulator, installed, and runs on it."""

    def __init__(self, monkeypatch, cache_dir) -> None:
        self.monkeypatch, self.cache_dir, self.variables = monkeypatch, cache_dir, {}

    @property
    def device(self):
        """The state of the emulated device of the last run."""
        return sys.modules[EMULATOR].device

    def resolve(self, *words, **variables):
        """Resolve a run, and set what its engine's process would have."""
        for name in self.variables:
            self.monkeypatch.delenv(name, raising=False)
        environ = {**clean_environ(), **variables}
        # The engine is in this process, whose signals are not its own.
        mine = (f"cache_dir={self.cache_dir}", "process.override_signal_handlers=false", "model=local")
        resolved = resolved_run(["backend=sendnn", *mine, *words], environ)
        self.variables = {**variables, **engine_environment(resolved, environ)}
        for name, text in self.variables.items():
            self.monkeypatch.setenv(name, text)
        return resolved

    def run(self, *words, requests=(), before=lambda request_id: None, **variables):
        """Run to the end and return the port, with what the engine sent."""
        port = EdgePort(requests, before)
        run_rank(port, self.resolve(*words, **variables).run, World())
        return port


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny BERT of one layer: what the device asks of a graph it asks whatever its depth."""
    return make_tiny(tmp_path_factory.mktemp("tiny"), num_layers=1)


@contextmanager
def emulated(monkeypatch, paths: str) -> Iterator[None]:
    """Have the emulator of these paths in this process, and nothing of it afterwards."""
    for path in reversed(paths.split(os.pathsep)):
        monkeypatch.syspath_prepend(path)
    threads, environ = torch.get_num_threads(), dict(os.environ)
    for name in [name for name in environ if name.startswith(("VLLM_DT_", "TORCH_SENDNN", "FLEX_"))]:
        del os.environ[name]
    forget_emulator()
    with signals_restored():
        yield
    forget_emulator()
    # An engine in this process sets variables of the process.
    os.environ.clear()
    os.environ.update(environ)
    torch.set_num_threads(threads)


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A card that nothing ran on."""
    with emulated(monkeypatch, install(EMULATOR, tmp_path / "site")):
        yield Card(monkeypatch, tmp_path)


@pytest.fixture
def handlers():
    """Who handles the signals that the device's library takes."""
    return lambda: [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
