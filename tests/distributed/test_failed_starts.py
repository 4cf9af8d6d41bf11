"""A start of several ranks that fails leaves nothing behind: no process, no socket, no port."""

import asyncio
import errno
import gc
import socket
from multiprocessing.context import SpawnProcess

import psutil
import pytest

from sendnn_pipeline.distributed import ranks
from sendnn_pipeline.errors import EngineError
from tests.distributed.test_ranks import run_of, start
from tests.leaks import wait_for


@pytest.fixture
def port():
    """One that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def bindable(port):
    """Whether nobody listens there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def no_more(what):
    def refuse(*_):
        raise OSError(errno.EAGAIN, f"no more {what}")

    return refuse


async def fails(run, words):
    """Start, and return how many more files are open than before, once those of a first try are."""
    process, before = psutil.Process(), 0
    for attempt in range(3):
        with pytest.raises(EngineError, match=words):
            await start("wait", run)
        if not attempt:
            gc.collect()
            # A library's thread closes some of them, a moment later.
            await asyncio.sleep(1.0)
            before = process.num_fds()
    gc.collect()
    await asyncio.to_thread(wait_for, lambda: process.num_fds() <= before, 10)


def test_weights_that_cannot_be_read(port, monkeypatch):
    monkeypatch.setattr(ranks, "describe_run", no_more("files"))
    run = run_of(tensor_parallel=3, nnodes=3, rendezvous=f"127.0.0.1:{port}")
    asyncio.run(fails(run, "the engine's processes cannot be started: .*no more files; this user's limits"))
    assert bindable(port)


def test_a_rank_that_cannot_be_started(monkeypatch):
    start_one, started = SpawnProcess.start, []

    def start_the_first(process):
        if process.name == "sendnn-rank-1":
            no_more("processes")()
        start_one(process)
        started.append(process.pid)

    monkeypatch.setattr(SpawnProcess, "start", start_the_first)
    asyncio.run(fails(run_of(tensor_parallel=2), "the engine's processes cannot be started: .*no more processes"))
    assert len(started) == 3 and not any(psutil.pid_exists(pid) for pid in started)
