"""One replica: a run of its own, its engine in processes of their own, its routes as Ray asks for them."""

import asyncio
import os
import socket
import sys
from contextlib import ExitStack
from typing import Any

from starlette.types import ASGIApp

from sendnn_pipeline.app.replica import replica_session
from sendnn_pipeline.config.description import RunDescription
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.server.asgi import Offer, offer
from sendnn_ray.exposition import LabelledMetrics
from sendnn_ray.lifespan import EndsWithServer
from sendnn_ray.request_id import SentByProxy


class Replica:
    """What Ray makes, asks for its health, and ends. Ray awaits ``__init__``, which a warm engine ends.

    Args:
        description: of the run.
        config: what the process that described it made of it.
    """

    async def __init__(self, description: RunDescription, config: RunConfig) -> None:  # type: ignore[misc]
        self._closing = asyncio.Event()
        started: asyncio.Future[Offer] = asyncio.get_running_loop().create_future()
        # Whoever enters the engine's block is cancelled when the engine ends by itself: a task of its own.
        self._running = asyncio.create_task(self._run(description, config, started))
        either: set[asyncio.Future[Any]] = {self._running, started}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await self._running
        self._offer = started.result()
        self._running.add_done_callback(self._end_with_engine)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application, once the engine is warm."""
        app = LabelledMetrics(self._offer.app, f"{socket.gethostname()}:{os.getpid()}")
        return EndsWithServer(SentByProxy(app), self.end)

    async def check_health(self) -> None:
        """Say what ``/ready`` says; Ray replaces a replica that is not ready.

        Raises:
            RuntimeError: the engine is gone, or silent while requests wait.
        """
        why = self._offer.why_not_ready()
        if why is not None:
            raise RuntimeError(why)

    async def end(self) -> None:
        """End the engine; Ray has waited for the requests before."""
        self._closing.set()
        await self._running

    async def _run(self, description: RunDescription, config: RunConfig, started: "asyncio.Future[Offer]") -> None:
        with ExitStack() as stack:
            # It reads files and may fetch a model: Ray's own questions are answered meanwhile.
            session = await asyncio.to_thread(stack.enter_context, replica_session(description, config))
            async with offer(session) as offered:
                started.set_result(offered)
                await self._closing.wait()
                await offered.drain()

    def _end_with_engine(self, running: "asyncio.Task[None]") -> None:
        """End the process where the engine ended by itself: a replica without one would refuse all that it is sent."""
        if self._closing.is_set():
            return
        error = None if running.cancelled() else running.exception()
        what = str(error) if isinstance(error, PipelineError) else f"the engine ended: {error!r}"
        sys.stderr.write(f"error: {what}\n")
        sys.stderr.flush()
        os._exit(getattr(error, "exit_code", 1))
