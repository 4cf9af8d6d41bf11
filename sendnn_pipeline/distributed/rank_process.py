"""The process of one rank, seen from its parent."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path

from sendnn_pipeline.distributed.port import AsyncPort
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Fatal, FromEngine

# How long the messages of a process that has ended may take to arrive.
FINAL_MESSAGES_SECONDS = 5.0
JOIN_SECONDS = 5.0


@dataclass
class RankProcess:
    """A process and the port to it."""

    rank: int
    process: SpawnProcess
    port: AsyncPort
    scratch: Path
    """Temporary files of the rank and of what it starts; the rank makes it."""
    ended_at: float = field(default=0.0, init=False)
    """When its process was seen to have ended, by the machine's monotonic clock; 0 until then."""
    _over: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None, "it is started"
        return self.process.pid

    def end_group(self) -> None:
        """End whatever still runs; once, since the group's number is ours only until the process is waited for."""
        if self._over:
            return
        self._over = True
        # A compiler that the engine started would go on. Its group is there once the engine is, which may be too soon.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()

    def join(self) -> None:
        """Wait for the process, which was told to end."""
        self.process.join(timeout=JOIN_SECONDS)

    def close(self) -> None:
        """Wait for the process; nothing of it stays in the temporary folder, and its port is closed."""
        if self._closed:
            return
        self._closed = True
        self.join()
        self.port.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the rank sends, until its process ends; a ``Fatal`` is the last.

        Raises:
            EngineError: it died.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def on_exit() -> None:
            loop.remove_reader(self.process.sentinel)
            self.ended_at = time.monotonic()
            ended.set()
            self.port.interrupt()

        loop.add_reader(self.process.sentinel, on_exit)
        try:
            while not ended.is_set():
                message = await self.port.receive()
                if message is not None:
                    yield message
                    if isinstance(message, Fatal):
                        return
        finally:
            loop.remove_reader(self.process.sentinel)
        async for message in self.port.rest(FINAL_MESSAGES_SECONDS):
            yield message
            if isinstance(message, Fatal):
                return
        self.end_group()
        self.process.join(timeout=JOIN_SECONDS)
        if self.process.exitcode != 0:
            raise EngineError(_ending(self.process.exitcode), hint="the lines above may say why")


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {exit_code}"
