"""A spawned engine process, seen from its parent."""

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed import worker
from sendnn_pipeline.distributed.port import AsyncPort
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Fatal, FromEngine

# How long messages that a dead process left in the port may take to arrive.
LAST_WORDS_SECONDS = 0.5


@dataclass(frozen=True)
class Rank:
    """One engine process and the port to it."""

    process: SpawnProcess
    port: AsyncPort

    def kill(self) -> None:
        """End the process at once."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(timeout=5)
        self.port.close()

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the engine says, until its process ends.

        Raises:
            EngineError: it reported a failure, or died.
        """
        loop, reader = asyncio.get_running_loop(), asyncio.current_task()
        assert reader is not None
        ended = False

        def on_exit() -> None:
            nonlocal ended
            ended = True
            loop.remove_reader(self.process.sentinel)
            loop.call_later(LAST_WORDS_SECONDS, reader.cancel)

        loop.add_reader(self.process.sentinel, on_exit)
        try:
            while True:
                message = await self.port.receive()
                if isinstance(message, Fatal):
                    error = EngineError(message.message)
                    error.exit_code = message.exit_code
                    raise error
                yield message
        except asyncio.CancelledError:
            if not ended:
                raise
            reader.uncancel()
        finally:
            loop.remove_reader(self.process.sentinel)
        self.process.join(timeout=5)
        if self.process.exitcode != 0:
            raise EngineError(
                f"the engine process {_ending(self.process.exitcode)}", hint="the lines above may say why"
            )


def start_rank(job: str, run: Run, address: str, environment: Mapping[str, str]) -> Rank:
    """Spawn the process that runs ``job`` (``module:function``), with ``environment`` set before torch is imported."""
    context = multiprocessing.get_context("spawn")
    port = AsyncPort(address)
    process = context.Process(
        target=worker.main, args=(job, run, address, dict(environment)), name="sendnn-rank-0", daemon=True
    )
    process.start()
    return Rank(process, port)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {exit_code}"
