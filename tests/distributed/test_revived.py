"""When an engine is started again, after how long, and when no more."""

import asyncio
from collections import deque
from types import SimpleNamespace

import pytest

from sendnn_pipeline.distributed import revived
from sendnn_pipeline.distributed.revived import start_revived
from sendnn_pipeline.errors import EngineError, NobodyThereError
from sendnn_pipeline.messages import Drain, EngineLost, Ready

READY = Ready([], True, 0, {})


class Lives:
    """Starts engines that say what they are told to; an error ends them, and so does the end of their words."""

    def __init__(self, *lives):
        self.lives, self.ended, self.pid = deque(lives), 0, 0

    def start(self):
        words = self.lives.popleft()
        return SimpleNamespace(messages=lambda: say(words), end=self.end, send=self.send)

    async def end(self):
        self.ended += 1

    async def send(self, message):
        """Take it."""


async def say(words):
    for word in words:
        if isinstance(word, Exception):
            raise word
        yield word


def run(lives, max_restarts=3):
    """Return what is heard, and the error at the end."""

    async def main():
        heard = []
        try:
            async for message in start_revived(lives.start, max_restarts).messages():
                heard.append(message)
        except EngineError as error:
            return heard, str(error)
        return heard, None

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(revived, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(revived, "LAST_SECONDS", 0.02)


def test_pauses_grow_to_a_limit_and_the_death_after_the_last_restart_is_the_error():
    died = EngineError("it died")
    lives = Lives([READY, died], [died], [READY, died], [READY, EngineError("and again")])
    heard, error = run(lives)
    lost = [message for message in heard if isinstance(message, EngineLost)]
    assert [(one.attempt, one.max_attempts, one.seconds) for one in lost] == [(1, 3, 0.01), (2, 3, 0.02), (3, 3, 0.02)]
    assert error == "and again" and lives.ended == 3 and heard.count(READY) == 3


def test_an_engine_that_was_never_warm_is_not_started_again():
    assert run(Lives([EngineError("no such model")])) == ([], "no such model")


def test_one_whose_node_0_does_not_come_again_is_not_started_once_more():
    lives = Lives([READY, EngineError("node 0 is gone")], [NobodyThereError("node 0 does not answer")])
    heard, error = run(lives)
    assert error == "node 0 does not answer" and len(heard) == 2 and lives.ended == 1


def test_one_that_worked_for_long_starts_the_count_anew(monkeypatch):
    monkeypatch.setattr(revived, "STEADY_SECONDS", -1.0)
    died = EngineError("it died")
    heard, error = run(Lives([READY, died], [READY, died], [READY]), max_restarts=1)
    assert [one.attempt for one in heard if isinstance(one, EngineLost)] == [1, 1] and error is None


@pytest.mark.parametrize("pausing", [True, False])
def test_a_drain_ends_the_restarts(pausing, monkeypatch):
    monkeypatch.setattr(revived, "FIRST_SECONDS", 60.0)
    monkeypatch.setattr(revived, "LAST_SECONDS", 60.0)

    async def main():
        ranks, heard = start_revived(Lives([READY, EngineError("it died")]).start, 3), []
        async for message in ranks.messages():
            heard.append(message)
            if isinstance(message, EngineLost if pausing else Ready):
                await ranks.send(Drain())
        return heard

    if pausing:
        assert len(asyncio.run(main())) == 2
        return
    with pytest.raises(EngineError, match="it died"):
        asyncio.run(main())
