"""The HTTP edge on an event loop, the engine in its own process: start, signals, draining."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial

import uvicorn

from sendnn_pipeline.errors import ServeError, counted
from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.target import LINGER_SECONDS, Session
from sendnn_pipeline.frontend.tokenizer import TextTokenizer
from sendnn_pipeline.messages import EngineLost, FromEngine, Ready
from sendnn_pipeline.server.app import make_app
from sendnn_pipeline.server.connection import Connection
from sendnn_pipeline.server.handshake import accept
from sendnn_pipeline.server.room import Room, Wait, num_connections
from sendnn_pipeline.server.state import server_state

# Of a tenth of a second, uvicorn's.
LOOK_TICKS = 3


class QuietServer(uvicorn.Server):
    """Uvicorn without its signal handlers, as draining is ours to decide, and with an eye on slow clients."""

    def __init__(self, config: uvicorn.Config, room: Room) -> None:
        super().__init__(config)
        self.room = room

    async def on_tick(self, counter: int) -> bool:
        """Look at the clients, a few times a second."""
        if counter % LOOK_TICKS == 0:
            # Every connection is of our class.
            self.room.look(self.server_state.connections, time.monotonic())  # type: ignore[arg-type]
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


async def serve(
    session: Session, listening: socket.socket, tokenizer: TextTokenizer, tls: ssl.SSLContext | None = None
) -> None:
    """Serve until a signal or the engine's end."""
    run, stop, url = session.run, asyncio.Event(), _url(listening, tls)

    def listen(message: FromEngine) -> None:
        if isinstance(message, EngineLost):
            pause = f"in {message.seconds:g} s, {message.attempt} of {message.max_attempts}"
            session.say(f"note: {message.reason}; the engine is started again {pause}")
        if isinstance(message, Ready) and not stop.is_set():
            # After a signal the engine may yet become warm, at a socket that is closed.
            seconds = time.monotonic() - session.started
            session.say(f"serving {run.served_name} at {url}, ready in {seconds:.1f} s")

    try:
        async with session.engine(run.config.serve.max_queue, listen) as client:
            if run.config.process.override_signal_handlers:
                _handle_signals(stop)
            stopped = asyncio.create_task(stop.wait())
            async with edge(session, client, tokenizer, listening, tls) as serving:
                await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not stop.is_set():
                    error = None if serving.cancelled() else serving.exception()
                    what = "ended by itself" if error is None else f"failed: {type(error).__name__}: {error}"
                    raise ServeError(f"the HTTP server {what}", hint="the lines above may say why")
                num_lost = await _drain(session, client)
        if num_lost:
            seconds = run.config.serve.drain_seconds
            raise ServeError(
                f"gave up on {counted(num_lost, 'request')} after {seconds:g} s", hint="raise serve.drain_seconds"
            )
        session.say("drained" if client.ready else "stopped before it was ready")
    finally:
        tokenizer.close()


def _url(listening: socket.socket, tls: ssl.SSLContext | None) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/v1"


@contextlib.asynccontextmanager
async def edge(
    session: Session,
    client: EngineClient,
    tokenizer: TextTokenizer,
    listening: socket.socket,
    tls: ssl.SSLContext | None = None,
) -> "AsyncIterator[asyncio.Task[None]]":
    """Answer HTTP at a socket while the block runs; yields the server's task."""
    config, state = session.run.config.serve, server_state(session, client, tokenizer)
    waits = {
        Wait.head: config.head_timeout_seconds,
        Wait.body: config.body_timeout_seconds,
        Wait.reading: config.reading_timeout_seconds,
    }
    room = Room(num_connections(config.max_connections), waits)
    if room.size < config.max_connections:
        asked = f"serve.max_connections={config.max_connections}"
        session.say(f"{asked} is cut to {room.size}: the process may open no more files (ulimit -n)")
    server = QuietServer(
        uvicorn.Config(
            make_app(state, session.endpoints, session.api_keys),
            # Any callable will do.
            http=partial(Connection, room=room),  # type: ignore[arg-type]
            ws="none",
            # What clients send that is not HTTP is answered, not logged: a line each would be theirs to write.
            log_level="error",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=session.run.config.serve.keep_alive_seconds,
            timeout_graceful_shutdown=int(LINGER_SECONDS),
        ),
        room,
    )
    serving = [asyncio.create_task(server.serve(sockets=[listening] if tls is None else []))]
    if tls is not None:
        # A handshake takes a place, too; uvicorn would hear of a client after it only.
        make = partial(Connection, room=room, config=server.config, server_state=server.server_state, app_state={})
        serving.append(asyncio.create_task(accept(listening, tls, room, make)))
    try:
        yield serving[0]
    finally:
        server.should_exit = True
        for accepting in serving[1:]:
            accepting.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        state.aside.shutdown(wait=False, cancel_futures=True)


async def _drain(session: Session, client: EngineClient) -> int:
    """Let running requests finish; return how many did not."""
    if client.ready is None:
        return 0
    seconds = session.run.config.serve.drain_seconds
    session.say(
        f"draining {counted(client.num_requests, 'request')}, at most {seconds:g} s; a second signal ends at once"
    )
    return await client.drain(seconds)


def _handle_signals(stop: asyncio.Event) -> None:
    def on_signal(number: int) -> None:
        if stop.is_set():
            # The engine ends with its parent.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
