"""Ranks on a machine whose name is a number, or of nobody: they meet on the loopback all the same."""

import os
import subprocess
import sys

import pytest

from tests.served import ROOT, environment

CODE = """
import asyncio, socket
from tests.distributed.test_ranks import run_of
from sendnn_pipeline.distributed.ranks import start_ranks

async def main():
    socket.sethostname("NAME")
    ranks = start_ranks("tests.generation.rank_jobs:add_up", run_of(tensor_parallel=2, gloo_timeout_minutes=1), {})
    try:
        async for message in ranks.messages():
            print(message.detail)
    finally:
        ranks.kill()

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can have a name of its own for a machine")
@pytest.mark.parametrize("name", ["12345", "no-such-host.invalid"])
def test_whatever_the_machine_is_called(name, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CODE.replace("NAME", name))
    ended = subprocess.run(
        ["unshare", "--uts", sys.executable, script],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout.splitlines() == [f"{name} 3"] * 2, ended.stderr
