"""The spawned processes of one engine, seen from their parent."""

import asyncio
import multiprocessing
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path

from sendnn_pipeline.distributed import worker
from sendnn_pipeline.distributed.port import AsyncPort, new_address
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Fatal, FromEngine, ToEngine

# How long the messages of a process that has ended may take to arrive.
FINAL_MESSAGES_SECONDS = 5.0
JOIN_SECONDS = 5.0


@dataclass
class Ranks:
    """The engine's processes and the port to them; one so far."""

    process: SpawnProcess
    port: AsyncPort
    scratch: Path
    """Temporary files of the engine and of what it starts; the engine makes it."""
    _over: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        """The process of the first rank."""
        assert self.process.pid is not None, "it is started"
        return self.process.pid

    def kill(self) -> None:
        """End the processes, and what they started, at once; nothing of theirs stays in the temporary folder."""
        self._end_group()
        self.process.join(timeout=JOIN_SECONDS)
        self.port.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _end_group(self) -> None:
        """End whatever still runs; once, since the group's number is ours only until the process is waited for."""
        if self._over:
            return
        self._over = True
        # A compiler that the engine started would go on. Its group is there once the engine is, which may be too soon.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()

    async def send(self, message: ToEngine) -> None:
        """Queue a message to the engine."""
        await self.port.send(message)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the engine sends, until its process ends.

        Raises:
            EngineError: it reported a failure, or died.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def on_exit() -> None:
            loop.remove_reader(self.process.sentinel)
            ended.set()
            self.port.interrupt()

        loop.add_reader(self.process.sentinel, on_exit)
        try:
            while not ended.is_set():
                message = await self.port.receive()
                if message is not None:
                    yield _checked(message)
        finally:
            loop.remove_reader(self.process.sentinel)
        async for message in self.port.rest(FINAL_MESSAGES_SECONDS):
            yield _checked(message)
        self._end_group()
        self.process.join(timeout=JOIN_SECONDS)
        if self.process.exitcode != 0:
            raise EngineError(
                f"the engine process {_ending(self.process.exitcode)}", hint="the lines above may say why"
            )


def start_ranks(job: str, run: Run, environment: Mapping[str, str]) -> Ranks:
    """Spawn the processes that run ``job`` (``module:function``), ``environment`` set before torch is imported.

    Raises:
        EngineError: there is no folder for temporary files.
    """
    try:
        scratch = Path(tempfile.gettempdir()) / f"sendnn-{secrets.token_hex(8)}"
    except FileNotFoundError:
        raise EngineError(
            "there is no folder for temporary files", hint="set TMPDIR to one that can be written"
        ) from None
    address = new_address()
    port = AsyncPort(address)
    world = World()
    process = multiprocessing.get_context("spawn").Process(
        target=worker.main,
        args=(job, run, world, address, {**environment, "TMPDIR": str(scratch)}),
        name=f"sendnn-rank-{world.rank}",
        daemon=True,
    )
    process.start()
    return Ranks(process, port, scratch)


def _checked(message: FromEngine) -> FromEngine:
    if isinstance(message, Fatal):
        error = EngineError(message.message)
        error.exit_code = message.exit_code
        raise error
    return message


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {exit_code}"
