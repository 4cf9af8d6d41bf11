"""Running an engine for as long as a block does: who ends whom, and what is said of it."""

import asyncio
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.frontend import target
from sendnn_pipeline.frontend.call import Work
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.messages import Drain, Ready, StageEvent
from sendnn_pipeline.observe.metrics import Metrics

READY = Ready([], True, 0, {})


class Asked(msgspec.Struct):
    """What the engine is sent."""


@dataclass
class Engine:
    """Says what it is told to; None ends it, an error ends it with that."""

    words: asyncio.Queue = field(default_factory=asyncio.Queue)
    pid: int = 0
    killed: bool = False
    ends_when_drained: bool = True

    async def send(self, message):
        if isinstance(message, Drain) and self.ends_when_drained:
            self.words.put_nowait(None)

    async def messages(self):
        while (word := await self.words.get()) is not None:
            if isinstance(word, Exception):
                raise word
            yield word

    def kill(self):
        self.killed = True


@dataclass
class Ran:
    """A session over an engine of the test's own, with what its observers heard."""

    engine: Engine = field(default_factory=Engine)
    heard: list = field(default_factory=list)

    def session(self):
        return Session(
            run=SimpleNamespace(
                plan=SimpleNamespace(unit="texts"),
                config=SimpleNamespace(serve=SimpleNamespace(stall_seconds=30.0)),
            ),
            start=lambda: self.engine,
            endpoints={},
            observe=self.heard.append,
            say=self.heard.append,
            on_ready=self.heard.append,
            metrics=Metrics(CollectorRegistry(), "m", 64),
            startup=None,
            perf_log=None,
            api_keys=(),
            started=0.0,
            about={},
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(target, "LAST_ANSWERS_SECONDS", 0.01)
    monkeypatch.setattr(target, "LINGER_SECONDS", 0.2)


def play(block, *, ran=None):
    """Run ``block(client, engine)`` in the block of a session, and return what happened."""
    ran = ran or Ran()

    async def main():
        async with ran.session().engine() as client:
            await block(client, ran.engine)

    try:
        asyncio.run(main())
    finally:
        assert ran.engine.killed, "whatever happens, no engine stays"
    return ran


def test_observers_hear_of_the_start_and_the_client_of_the_rest():
    heard = []

    async def block(client, engine):
        engine.words.put_nowait(StageEvent("load", "started"))
        engine.words.put_nowait(READY)
        await client.wait_ready()

    ran = Ran()
    play(block, ran=ran)
    assert [type(word).__name__ for word in ran.heard] == ["StageEvent", "Ready"] and heard == []


def test_an_engine_that_fails_answers_who_waits_ends_the_block_and_keeps_its_exit_code():
    answers = []
    error = EngineError("the weights are broken")
    error.exit_code = 2

    async def ask(client):
        try:
            async with client.open(Asked(), Work(1, 1), math.inf) as call:
                async for _ in call:
                    raise AssertionError
        except RequestError as refused:
            answers.append(refused)

    async def block(client, engine):
        engine.words.put_nowait(READY)
        await client.wait_ready()
        asking = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        engine.words.put_nowait(error)
        try:
            await asyncio.Event().wait()
        finally:
            await asking

    with pytest.raises(EngineError, match="the weights are broken") as caught:
        play(block)
    assert caught.value.exit_code == 2
    assert [(answer.status, "the weights are broken" in answer.message) for answer in answers] == [(503, True)]


def test_an_engine_that_fails_before_it_is_warm_ends_who_waits_for_that():
    async def block(client, engine):
        engine.words.put_nowait(EngineError("no such model"))
        await client.wait_ready()
        raise AssertionError("it never was")

    with pytest.raises(EngineError, match="no such model"):
        play(block)


def test_an_engine_that_ends_by_itself_is_an_error():
    async def block(client, engine):
        engine.words.put_nowait(None)
        await asyncio.Event().wait()

    with pytest.raises(EngineError, match="the engine ended by itself"):
        play(block)


def test_an_engine_that_failed_is_not_passed_over_on_the_way_out():
    async def block(client, engine):
        engine.words.put_nowait(READY)
        await client.wait_ready()
        engine.words.put_nowait(EngineError("it crashed"))
        while client.dead is None:
            await asyncio.sleep(0)
        # As on a signal in that very moment.
        await client.drain(1.0)

    with pytest.raises(EngineError, match="it crashed"):
        play(block)


def test_one_that_is_drained_ends_well_and_one_that_stays_is_killed():
    async def block(client, engine):
        engine.words.put_nowait(READY)
        await client.wait_ready()
        assert await client.drain(1.0) == 0

    for ends in (True, False):
        play(block, ran=Ran(Engine(ends_when_drained=ends)))


async def nothing(client, engine):
    """Wait as a server does."""
    await asyncio.Event().wait()


async def failing(client, engine):
    """Be cancelled in the moment in which the engine fails, too."""
    engine.words.put_nowait(EngineError("it crashed"))
    try:
        await asyncio.Event().wait()
    finally:
        asyncio.current_task().cancel()


async def drained(client, engine):
    """Be cancelled after the engine has ended as it was told to."""
    engine.words.put_nowait(READY)
    await client.wait_ready()
    await client.drain(1.0)
    await asyncio.sleep(0.05)
    await asyncio.Event().wait()


@pytest.mark.parametrize("block", [nothing, failing, drained])
def test_a_task_that_is_cancelled_is_cancelled_whatever_the_engine_does(block):
    ran = Ran()

    async def main():
        async def run():
            async with ran.session().engine() as client:
                await block(client, ran.engine)

        task = asyncio.create_task(run())
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(main()) and ran.engine.killed


class Serving(Engine):
    """Says that it has served when it is told to drain."""

    async def send(self, message):
        if isinstance(message, Drain):
            self.words.put_nowait(StageEvent("serve", "finished"))
        await super().send(message)


def test_a_target_that_ends_leaves_an_engine_whose_last_stage_finished():
    ran = Ran(Serving())

    async def main():
        ran.engine.words.put_nowait(READY)
        async with ran.session().warm_engine(SimpleNamespace(close=lambda: None)) as engine:
            assert not engine.front.client.draining

    asyncio.run(main())
    assert ran.heard[-1] == StageEvent("serve", "finished") and ran.engine.killed
