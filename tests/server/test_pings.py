"""Streams that have nothing to say yet show that they live."""

import asyncio

import pytest

from sendnn_pipeline.server.pings import with_pings


async def events(gate, log):
    try:
        yield 1
        await gate.wait()
        yield 2
    finally:
        log.append("closed")


def test_a_silence_is_filled_and_nothing_is_lost():
    async def run():
        gate, log, seen = asyncio.Event(), [], []
        async for event in with_pings(events(gate, log), 0.01):
            seen.append(event)
            if seen.count(None) == 3:
                gate.set()
        return seen, log

    seen, log = asyncio.run(run())
    assert seen[0] == 1 and seen[-1] == 2 and set(seen[1:-1]) == {None} and log == ["closed"]


def test_whoever_leaves_in_a_silence_closes_the_events():
    async def run():
        log = []
        lively = with_pings(events(asyncio.Event(), log), 0.01)
        assert [await anext(lively) for _ in range(3)] == [1, None, None]
        await lively.aclose()
        return log

    assert asyncio.run(run()) == ["closed"]


def test_an_error_goes_through():
    async def broken():
        yield 1
        raise KeyError

    async def run():
        return [event async for event in with_pings(broken(), 1.0)]

    with pytest.raises(KeyError):
        asyncio.run(run())
