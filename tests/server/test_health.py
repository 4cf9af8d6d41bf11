"""What the probes answer, of an engine that is told what to be; no route waits for it."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import CollectorRegistry

from sendnn_pipeline.config.serving import LogConfig, ServeConfig
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.server.app import make_app
from sendnn_pipeline.server.recent import RecentErrors


@pytest.fixture
def ask():
    """Ask a probe of a server whose engine is in this state."""

    def ask(path, *, why=None, stalled=None, warm=True):
        client = SimpleNamespace(unavailable=lambda: why, stalled=lambda: stalled, ready=object() if warm else None)
        startup = SimpleNamespace(progress=lambda: {"stage": "compile"})
        run = SimpleNamespace(config=SimpleNamespace(serve=ServeConfig(page=False), log=LogConfig()))
        parts = {"metrics": Metrics(CollectorRegistry(), "m", 8), "recent": RecentErrors()}
        front = SimpleNamespace(client=client, run=run)
        app = make_app(SimpleNamespace(front=front, startup=startup, **parts), {}, ())

        async def get():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as session:
                return await session.get(path)

        return asyncio.run(get())

    return ask


@pytest.mark.parametrize("path", ["/ready", "/health"])
def test_ready_is_one_that_takes_work_and_moves(ask, path):
    assert ask(path).json() == {"status": "ready"}
    loading = ask(path, why="the model is still loading")
    assert loading.status_code == 503 and loading.json()["reason"] == "the model is still loading"
    assert loading.headers["retry-after"]
    stalled = ask(path, stalled="rank 1 has been silent for 42 s")
    assert stalled.status_code == 503
    assert stalled.json()["reason"] == "rank 1 has been silent for 42 s"


def test_live_is_any_process_that_answers(ask):
    for state in ({}, {"why": "the engine is gone"}, {"stalled": "it is"}, {"warm": False}):
        assert ask("/live", **state).status_code == 200


def test_startup_shows_how_far_it_is(ask):
    assert ask("/startup", warm=False).json() == {"status": "starting", "stage": "compile"}
    assert ask("/startup", warm=False).status_code == 503
    # Draining and stalling are no matter of the start.
    assert ask("/startup", why="the server is shutting down", stalled="it is").status_code == 200
