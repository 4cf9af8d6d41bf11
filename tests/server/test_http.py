"""The HTTP target around its server and its engine: what ends it, and with what."""

import asyncio
import os
import signal
import socket
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from sendnn_pipeline.config.serving import ServeConfig
from sendnn_pipeline.errors import EngineError, ServeError
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.messages import Drain, Ready
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.server import http
from sendnn_pipeline.server.http import QuietServer


class Engine:
    """Warm at once, and there until it is told to drain, or fails."""

    pid = 0
    is_signalled = False

    def __init__(self, error=None):
        self.error, self.drained, self.killed = error, asyncio.Event(), False

    async def send(self, message):
        assert isinstance(message, Drain)
        self.drained.set()

    async def messages(self):
        yield Ready([], True, 0, {})
        if self.error is not None:
            raise self.error
        await self.drained.wait()

    def kill(self):
        self.killed = True


class LateEngine(Engine):
    """Warm only when the server stops, which a signal tells it to."""

    is_signalled = True

    def __init__(self):
        super().__init__()
        self.warm = asyncio.Event()

    async def messages(self):
        os.kill(os.getpid(), signal.SIGTERM)
        await self.warm.wait()
        yield Ready([], True, 0, {})
        await asyncio.Event().wait()


@pytest.fixture
def serve(monkeypatch):
    """Serve with an engine until ``meanwhile(task)`` is done and the target ended; returns its task and its lines."""

    def serve(engine, meanwhile):
        lines = []

        async def main():
            serving = ServeConfig(max_queue=9, drain_seconds=1.0, page=False)
            process = SimpleNamespace(override_signal_handlers=engine.is_signalled)
            run = SimpleNamespace(
                plan=SimpleNamespace(unit="texts"),
                config=SimpleNamespace(serve=serving, process=process, log=SimpleNamespace(access=False)),
                served_name="model",
            )
            session = Session(
                run=run,
                start=lambda: engine,
                endpoints={},
                observe=lines.append,
                say=lines.append,
                on_ready=lambda ready: None,
                metrics=Metrics(CollectorRegistry(), "m", 64),
                startup=None,
                perf_log=None,
                api_keys=(),
                started=0.0,
                about={},
            )
            with socket.create_server(("127.0.0.1", 0)) as listening:
                task = asyncio.create_task(http.serve(session, listening, SimpleNamespace(close=lambda: None)))
                while not lines and not task.done():
                    await asyncio.sleep(0.01)
                meanwhile(task)
                await asyncio.wait({task}, timeout=20)
            return task

        return asyncio.run(main()), lines

    return serve


def test_a_server_that_is_cancelled_is_cancelled_and_takes_its_engine_along(serve):
    engine = Engine()
    task, lines = serve(engine, lambda task: task.cancel())
    assert task.cancelled() and engine.killed and "serving model at http://127.0.0.1:" in lines[0]


def test_an_engine_that_fails_ends_it_with_its_reason(serve):
    engine = Engine(EngineError("it crashed"))
    task, _ = serve(engine, lambda task: None)
    assert isinstance(task.exception(), EngineError) and str(task.exception()) == "it crashed" and engine.killed


def test_a_server_that_fails_is_named_with_its_reason(serve, monkeypatch):
    async def broken(server, sockets):
        await asyncio.sleep(0.05)
        raise OSError("no more sockets")

    monkeypatch.setattr(QuietServer, "serve", broken)
    engine = Engine()
    task, _ = serve(engine, lambda task: None)
    error = task.exception()
    assert isinstance(error, ServeError) and "the HTTP server failed: OSError: no more sockets" in str(error)
    assert engine.killed


def test_an_engine_that_is_warm_after_a_signal_is_not_offered(serve, monkeypatch):
    engine, shutdown = LateEngine(), QuietServer.shutdown

    async def slow(server, sockets=None):
        await shutdown(server, sockets)
        assert [one.fileno() for one in sockets] == [-1]
        engine.warm.set()
        await asyncio.sleep(0.05)

    monkeypatch.setattr(QuietServer, "shutdown", slow)
    task, lines = serve(engine, lambda task: None)
    assert task.exception() is None and engine.warm.is_set() and engine.killed
    assert lines == ["drained"]
