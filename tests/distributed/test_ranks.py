"""The process of a rank as its parent sees it: what it says, how it ends, and who else may end the reading."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sendnn_pipeline.config.schema import ConsoleName, ParallelConfig
from sendnn_pipeline.config.serving import LogConfig
from sendnn_pipeline.distributed.port import AsyncPort, new_address
from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.distributed.rendezvous import bind_rendezvous
from sendnn_pipeline.errors import ConfigError, EngineError
from sendnn_pipeline.messages import Drain
from tests.distributed.jobs import COUNT
from tests.served import ROOT, environment

PROCESS = SimpleNamespace(override_signal_handlers=True)


def run_of(**parallel):
    config = {"process": PROCESS, "console": ConsoleName.stdout, "log": LogConfig()}
    return SimpleNamespace(config=SimpleNamespace(**config, parallel=ParallelConfig(**parallel)), library="")


RUN = run_of()


async def start(job, run=RUN, **environment):
    return start_ranks(f"tests.distributed.jobs:{job}", run, environment)


CODE = """
import asyncio
from tests.distributed.test_ranks import start

async def main():
    ranks = await start("show_progress")
    async for message in ranks.messages():
        assert message.detail
        ranks.kill()
        break

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_an_engine_that_is_killed_leaves_no_semaphore(tmp_path):
    """Python's tracker of such things speaks when the parent ends."""
    script = tmp_path / "script.py"
    script.write_text(CODE)
    ended = subprocess.run(
        [sys.executable, script],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0 and "leaked" not in ended.stderr, ended.stderr


async def read(job, found, **environment):
    """Read all that a rank says."""
    started = await start(job, **environment)
    try:
        async for message in started.messages():
            found.append(message)
            if job.endswith("_and_be_killed") and len(found) == (COUNT if job.startswith("talk") else 1):
                await started.send(Drain())
    finally:
        started.kill()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("talk", None),
        ("talk_and_leave", "the engine failed: SystemExit: 3"),
        ("talk_and_be_killed", "the engine process was killed by SIGKILL, as the kernel does when memory runs out"),
    ],
)
def test_all_that_it_said_is_read_and_then_how_it_ended(job, words):
    found = []
    if words is None:
        asyncio.run(read(job, found))
    else:
        with pytest.raises(EngineError, match=words):
            asyncio.run(read(job, found))
    assert [message.index for message in found] == list(range(COUNT))


def test_a_failure_is_the_line_that_it_gave_with_its_exit_code():
    with pytest.raises(EngineError, match="the weights are broken; fetch them again") as caught:
        asyncio.run(read("fail", []))
    assert caught.value.exit_code == 2


def test_a_bug_is_one_line(capfd):
    with pytest.raises(EngineError, match=r"^the engine failed: ValueError: two lines$"):
        asyncio.run(read("crash", []))
    assert "Traceback" in capfd.readouterr().err


def test_its_environment_is_its_own_and_it_hears_what_it_is_told():
    async def main():
        started = await start("wait_for_drain", ONLY_OF_THE_RANK="so")
        async for message in started.messages():
            assert message.detail == "so" and "ONLY_OF_THE_RANK" not in os.environ
            await started.send(Drain())
        started.kill()
        assert started.ranks[0].process.exitcode == 0

    asyncio.run(main())


def test_what_it_started_and_its_temporary_files_end_with_it():
    async def main():
        started = await start("compile")
        async for message in started.messages():
            assert Path(message.program).parent == started.ranks[0].scratch and Path(message.program).is_file()
            started.kill()
            return message.index, started.ranks[0].scratch
        raise AssertionError("it said nothing")

    child, scratch = asyncio.run(main())
    wait_for(lambda: gone(child))
    assert not scratch.exists()


def test_what_it_started_ends_with_it_also_when_it_dies():
    found = []
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        asyncio.run(read("compile_and_be_killed", found))
    (message,) = found
    assert gone(message.index) and not Path(message.program).parent.exists()


async def follow_to_the_end(ranks):
    """Return what all ranks say, and the error that they end with."""
    found = []
    try:
        async for message in ranks.messages():
            found.append(message)
    except EngineError as error:
        return found, error, [rank.pid for rank in ranks.ranks]
    finally:
        ranks.kill()
    return found, None, [rank.pid for rank in ranks.ranks]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("meet_and_leave", None),
        ("fail_in_the_last", "rank 2: the weights are broken; fetch them again"),
        ("be_killed_in_the_last", "the process of rank 2 was killed by SIGKILL"),
    ],
)
def test_of_several_ranks_the_first_to_fail_is_the_error_and_all_are_gone(job, words, tmp_path):
    async def main():
        run = run_of(tensor_parallel=3, worker_log_dir=str(tmp_path / "logs"))
        return await asyncio.wait_for(follow_to_the_end(await start(job, run)), 60)

    found, error, pids = asyncio.run(main())
    assert str(error).startswith(words) if words else error is None
    assert all(gone(pid) for pid in pids)
    # Each with its own environment, and what it printed, also natively, in its own file.
    if words is None:
        assert sorted(message.detail for message in found) == [f"{rank} {rank} of 3 lo" for rank in range(3)]
    for rank in range(3):
        printed = (tmp_path / "logs" / f"rank-{rank}.log").read_text()
        assert printed.startswith(f"printed by {rank}\n")
        assert ("Traceback" in printed) == (job.startswith("be_killed") and rank == 1)


def test_of_ranks_that_are_killed_the_first_is_named_whatever_its_number():
    async def main():
        ranks = await start("wait", run_of(tensor_parallel=3))
        ending, began = asyncio.create_task(follow_to_the_end(ranks)), time.monotonic()
        await asyncio.sleep(0.1)
        for rank in (2, 1):
            os.kill(ranks.ranks[rank].pid, signal.SIGKILL)
            await asyncio.sleep(0.3)
        _, error, _ = await asyncio.wait_for(ending, 60)
        ended = [ranks.ranks[rank].ended_at - began for rank in (2, 1)]
        assert 0.0 < ended[0] < ended[1] < 60
        return str(error)

    assert asyncio.run(main()).startswith("the process of rank 2 was killed by SIGKILL")


def test_where_ranks_meet_is_said_by_the_environment_and_refused_in_one_line():
    place = bind_rendezvous({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ""}, 3)
    with place.listening:
        assert place.host == "127.0.0.1" and place.port and place.timeout_minutes == 3
        taken = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(place.port)}
        with pytest.raises(EngineError, match=f"MASTER_PORT={place.port}, where ranks meet, cannot be had"):
            bind_rendezvous(taken, 3)
    with pytest.raises(ConfigError, match="MASTER_PORT=x must be a number"):
        bind_rendezvous({"MASTER_PORT": "x"}, 3)


def test_nothing_of_a_start_stays_open_in_its_parent():
    """However often an engine of two ranks is started again; sockets of other nodes are closed, too."""

    async def start_and_kill():
        ranks = await start("wait", run_of(tensor_parallel=2))
        ranks.link.connect(ranks.link.listen(1, "127.0.0.1"))
        async for _ in ranks.messages():
            await ranks.end()
            break

    async def main():
        process = psutil.Process()
        await start_and_kill()
        gc.collect()
        # A library's thread closes some of them, a moment later.
        await asyncio.sleep(1.0)
        before = process.num_fds()
        for _ in range(3):
            await start_and_kill()
        gc.collect()
        await asyncio.to_thread(wait_for, lambda: process.num_fds() <= before, 10)

    asyncio.run(main())


PARENT = """
import asyncio
from tests.distributed.test_ranks import start
async def main():
    started = await start("compile")
    async for message in started.messages():
        print(message.index, message.program, started.ranks[0].process.pid, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_nothing_stays_of_it_when_its_parent_is_ended(number, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        child, file, engine = parent.stdout.readline().split()
        assert Path(file).is_file() and Path(file).is_relative_to(tmp_path)
        parent.send_signal(number)
        parent.communicate(timeout=30)
    for pid in (child, engine):
        wait_for(lambda pid=pid: gone(int(pid)))
    assert list(tmp_path.iterdir()) == []


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_for(condition, seconds=30):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        time.sleep(0.02)


SOMEBODY = """
import os, sys, time
import msgspec, zmq
from sendnn_pipeline.messages import StageEvent
os.setuid(int(sys.argv[1]))
socket = zmq.Context().socket(zmq.PAIR)
socket.connect(sys.argv[2])
socket.send(msgspec.msgpack.encode(StageEvent("load", "started", detail=sys.argv[1])))
time.sleep(60)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_heard_at_the_port():
    async def main():
        address = new_address()
        port = AsyncPort(address)
        with contextlib.ExitStack() as ending:
            for uid in ("65534", "0"):
                other = subprocess.Popen([sys.executable, "-c", SOMEBODY, uid, address])
                ending.enter_context(other)
                ending.callback(other.kill)
            message = await asyncio.wait_for(port.receive(), 30)
        port.close()
        return message.detail

    assert asyncio.run(main()) == "0"


@pytest.mark.parametrize("library", ["selectors", "colorsys"])
def test_a_library_that_is_imported_before_its_environment_is_set_ends_the_rank(library):
    """Of the two, a process has the first as soon as it starts."""

    async def main():
        run = SimpleNamespace(config=RUN.config, library=library)
        ranks = await start("talk", run, SIZES_OF_THE_RUN="64")
        try:
            return [message.index async for message in ranks.messages()]
        finally:
            ranks.kill()

    if library == "colorsys":
        assert asyncio.run(main()) == list(range(COUNT))
    else:
        says = "selectors is imported already, and SIZES_OF_THE_RUN=64 would come too late; start the engine in a new"
        with pytest.raises(EngineError, match=says):
            asyncio.run(main())
