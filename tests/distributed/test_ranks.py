"""The process of a rank as its parent sees it: what it says, how it ends, and who else may end the reading."""

import asyncio
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from sendnn_pipeline.config.serving import LogConfig
from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Cancel, Drain
from tests.distributed.jobs import COUNT
from tests.served import ROOT, environment

RUN = SimpleNamespace(config=SimpleNamespace(process=SimpleNamespace(override_signal_handlers=True), log=LogConfig()))


async def start(job, **environment):
    return start_ranks(f"tests.distributed.jobs:{job}", RUN, environment)


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
            if job == "talk_and_be_killed" and len(found) == COUNT:
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
        folder = started.folder.name
        async for message in started.messages():
            assert message.detail == "so" and "ONLY_OF_THE_RANK" not in os.environ
            await started.send(Drain())
        started.kill()
        assert started.process.exitcode == 0
        return folder

    assert not os.path.exists(asyncio.run(main()))  # noqa: PTH110


@pytest.mark.parametrize("job", ["wait", "talk"])
def test_a_task_that_is_cancelled_is_cancelled_even_when_the_process_has_just_ended(job):
    async def main():
        started = await start(job)
        heard = asyncio.Event()

        async def follow():
            async for _ in started.messages():
                heard.set()

        following = asyncio.create_task(follow())
        await heard.wait()
        if job == "talk":
            # In the time in which the last words of a process that ended are awaited.
            while started.process.is_alive():
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait({following})
        pid = started.process.pid
        started.kill()
        # And nothing of it strikes later.
        await asyncio.sleep(0.5)
        return following.cancelled(), pid

    cancelled, pid = asyncio.run(main())
    assert cancelled and not psutil.pid_exists(pid)


def test_what_is_sent_to_a_rank_that_is_gone_waits_for_nobody():
    async def main():
        started = await start("wait")
        async for _ in started.messages():
            started.process.kill()
            started.process.join()
            began = time.monotonic()
            for number in range(100):
                await asyncio.wait_for(started.send(Cancel(number)), 5)
                await asyncio.sleep(0.002)
            break
        started.kill()
        return time.monotonic() - began

    assert asyncio.run(main()) < 5
