"""A decoder among two ranks, of which one is stopped or killed while it warms up: the other is in a sum, and waits."""

import asyncio

import psutil
import pytest

from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Ready
from tests.conftest import resolved_run
from tests.distributed.test_ranks import gone
from tests.leaks import shared_memory
from tests.served import EAGER_FLOAT32

SECONDS = 120


async def warm(job, llama, meddle):
    """Follow two ranks to their end, beside ``meddle`` with the process of the second; return whether they got warm."""
    words = [*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=2", "pipeline=precompile"]
    ranks, found = start_ranks(f"tests.generation.rank_jobs:{job}", resolved_run(words).run, {}), []
    pids = [rank.pid for rank in ranks.ranks]
    meddling = asyncio.create_task(meddle(psutil.Process(pids[1]), found))
    try:
        async with asyncio.timeout(SECONDS):
            async for message in ranks.messages():
                found.append(message)
            await meddling
    finally:
        meddling.cancel()
        ranks.kill()
    assert all(gone(pid) for pid in pids)
    return any(isinstance(message, Ready) for message in found)


async def resume(process, found):
    """Have a rank go on that stopped itself, once it is seen that nobody goes on without it."""
    while process.status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    assert not any(isinstance(message, Ready) for message in found)
    process.resume()


async def leave(process, found):
    """Do nothing."""


def test_a_rank_that_is_stopped_in_warmup_is_waited_for(llama):
    assert asyncio.run(warm("stop_in_warmup", llama, resume))


def test_a_rank_that_is_killed_in_warmup_ends_all_and_is_named(llama):
    before = shared_memory()
    with pytest.raises(EngineError, match="the process of rank 1 was killed by SIGKILL"):
        asyncio.run(warm("die_in_warmup", llama, leave))
    assert shared_memory() <= before
