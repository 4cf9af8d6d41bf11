"""What a serve target is, where a warm engine is offered, and what it needs of the run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Protocol

from sendnn_pipeline.config.description import RunDescription
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError, PipelineError
from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.tokenizer import TextTokenizer, load_tokenizer
from sendnn_pipeline.frontend.warm import WarmEngine
from sendnn_pipeline.messages import FromEngine, Ready, StageEvent, ToEngine
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.perf_log import PerfLog
from sendnn_pipeline.observe.startup import Startup

# What an engine that was told to drain may take to end.
LINGER_SECONDS = 2.0
LAST_ANSWERS_SECONDS = 0.1
# No queue: of one's own requests as many wait as one likes.
ANY_NUMBER = 2**31


class RunningEngine(Protocol):
    """A started engine: the ranks behind one port."""

    @property
    def pid(self) -> int:
        """The process of the first rank."""

    async def send(self, message: ToEngine) -> None:
        """Queue a message."""

    def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the engine sends, until it ends.

        Raises:
            EngineError: it reported a failure, or died.
        """

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True)
class Session:
    """What a target needs of the run that it serves."""

    run: Run
    start: Callable[[], RunningEngine]
    """Start the engine."""
    endpoints: Mapping[str, Endpoint[Any]]
    """What can be asked of the run's engine, by path."""
    observe: Callable[[StageEvent], None]
    """Tell the observers what happened."""
    say: Callable[[str], None]
    """Print one line for the user."""
    on_ready: Callable[[Ready], None]
    """Record what the warm engine says of itself."""
    metrics: Metrics
    startup: Startup
    perf_log: PerfLog | None
    api_keys: tuple[str, ...]
    started: float
    """Monotonic seconds at which the process began."""
    about: Mapping[str, Any]
    """Facts for ``/info``."""
    description: RunDescription | None = None
    """What the run was described with, for targets that have other processes run it; None in a Python program."""

    async def follow(self, ranks: RunningEngine) -> AsyncIterator[FromEngine]:
        """Tell the observers what the engine says of its start, and yield the rest until it ends.

        Raises:
            EngineError: it reported a failure, or died.
        """
        async for message in ranks.messages():
            if isinstance(message, StageEvent):
                self.observe(message)
                continue
            if isinstance(message, Ready):
                # Another one, where the engine was started again.
                self.metrics.engine_pid = ranks.pid
                self.on_ready(message)
            yield message

    @asynccontextmanager
    async def engine(
        self, max_queue: int = ANY_NUMBER, listen: Callable[[FromEngine], None] = lambda message: None
    ) -> AsyncIterator[EngineClient]:
        """Run the engine while the block does; its end, where it is not the block's own doing, ends the block.

        Args:
            max_queue: most items that wait.
            listen: called with every message, after the client took it.

        Raises:
            EngineError: it reported a failure, or died.
        """
        ranks, block = self.start(), asyncio.current_task()
        assert block is not None
        self.metrics.engine_pid = ranks.pid
        client = EngineClient(
            ranks, self.metrics, max_queue, self.run.plan.unit, stall_seconds=self.run.config.serve.stall_seconds
        )
        leaving = ended_block = False

        async def follow() -> None:
            try:
                async for message in self.follow(ranks):
                    client.handle(message)
                    listen(message)
            except PipelineError as error:
                client.die(str(error))
                # Whoever waits gets an answer before the block ends.
                await asyncio.sleep(LAST_ANSWERS_SECONDS)
                raise

        def on_end(task: "asyncio.Task[None]") -> None:
            nonlocal ended_block
            drained = client.draining and not task.cancelled() and task.exception() is None
            if not leaving and not drained and not task.cancelled():
                client.die("it ended")
                ended_block = block.cancel()

        following = asyncio.create_task(follow())
        following.add_done_callback(on_end)
        try:
            yield client
            leaving = True
            if client.draining:
                await asyncio.wait({following}, timeout=LINGER_SECONDS)
            if following.done():
                following.result()
        except asyncio.CancelledError:
            # Whoever else cancels the block means it.
            if not ended_block or block.uncancel():
                raise
            following.result()
            raise EngineError("the engine ended by itself", hint="the lines above may say why") from None
        finally:
            leaving = True
            ranks.kill()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @asynccontextmanager
    async def warm_engine(self, tokenizer: TextTokenizer | None = None) -> AsyncIterator[WarmEngine]:
        """Run the engine as ``engine`` does, and enter the block when it is warm; it is drained when the block is left.

        Args:
            tokenizer: of the run's model, if it is read already; it is closed with the block.

        Raises:
            EngineError: it reported a failure, or died.
            ModelError: the model's tokenizer cannot be read.
        """
        with closing(tokenizer or load_tokenizer(self.run.model.folder)) as own:
            async with self.engine() as client:
                await client.wait_ready()
                yield WarmEngine(Frontend(self.run, client, own), self.endpoints)
                if not client.draining and client.dead is None:
                    # Observers hear that the stage of serving finished.
                    await client.drain(LINGER_SECONDS)


class ServeTarget(Protocol):
    """Where the engine is offered."""

    ends: bool
    """Whether it ends by itself; one that does not is refused in a sweep."""
    keys: tuple[str, ...]
    """Keys that it uses beside ``serve.``; one that ends in a dot stands for its whole group."""

    def prepare(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Take what the target needs, such as a port, before anything is loaded.

        Raises:
            PipelineError: it cannot be had.
        """

    def run(self, session: Session) -> None:
        """Start the engine, offer it, and return when all is done.

        Raises:
            PipelineError: the engine failed or died.
        """
