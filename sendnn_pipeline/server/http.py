"""The serve target ``http``: a socket, an event loop, the engine in its own process."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import uvicorn

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.distributed.target import Session
from sendnn_pipeline.errors import PipelineError, ServeError
from sendnn_pipeline.messages import Ready
from sendnn_pipeline.server.app import make_app
from sendnn_pipeline.server.engine_client import EngineClient
from sendnn_pipeline.server.state import state_over
from sendnn_pipeline.server.tokenizer import TextTokenizer, load_tokenizer

LINGER_SECONDS = 2.0


class QuietServer(uvicorn.Server):
    """Uvicorn without its signal handlers: draining is ours to decide."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


@dataclass
class HttpTarget:
    """Offers the engine at an address."""

    ends = False
    listening: socket.socket | None = field(default=None, init=False)
    tokenizer: TextTokenizer | None = field(default=None, init=False)

    def claim(self, run: Run) -> None:
        """Bind the address and read the tokenizer, so that both are known to work before weights are loaded."""
        self.tokenizer = load_tokenizer(run.model.folder)
        host, port = run.config.serve.host, run.config.serve.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.socket(family, socket.SOCK_STREAM)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.listening.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise ServeError(
                f"serve.port={port} on {host} cannot be had: {error.strerror or error}",
                hint="stop what uses it, or choose another serve.port (0 takes a free one)"
                if taken
                else "choose another serve.host or serve.port",
            ) from None

    def run(self, session: Session) -> None:
        """Serve until a signal or the engine's end."""
        import uvloop

        assert self.listening is not None and self.tokenizer is not None
        with new_address() as address, self.listening:
            uvloop.run(_serve(session, self.listening, self.tokenizer, session.start_rank(address)))


async def _serve(session: Session, listening: socket.socket, tokenizer: TextTokenizer, rank: Rank) -> None:
    run = session.run
    engine = EngineClient(rank, session.metrics, run.config.serve.max_queue, run.dimensions)
    listen = asyncio.create_task(_listen(session, listening, rank, engine))
    stop = asyncio.Event()
    if run.config.process.override_signal_handlers:
        _handle_signals(stop, rank)
    stopped = asyncio.create_task(stop.wait())
    async with edge(session, engine, tokenizer, listening) as serving:
        try:
            await asyncio.wait({serving, listen, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and not listen.done():
                await _drain(session, engine, listen)
            if listen.done():
                listen.result()
            if serving.done() and not stop.is_set():
                raise ServeError("the HTTP server ended by itself", hint="the lines above may say why")
        finally:
            rank.kill()
            for task in (stopped, listen):
                task.cancel()
            await asyncio.gather(stopped, listen, return_exceptions=True)
            tokenizer.close()


@contextlib.asynccontextmanager
async def edge(
    session: Session, engine: EngineClient, tokenizer: TextTokenizer, listening: socket.socket
) -> "AsyncIterator[asyncio.Task[None]]":
    """Answer HTTP at a socket while the block runs; yields the server's task."""
    server = QuietServer(
        uvicorn.Config(
            make_app(state_over(session, engine, tokenizer), session.api_key),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=int(LINGER_SECONDS),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield task
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


async def _listen(session: Session, listening: socket.socket, rank: Rank, engine: EngineClient) -> None:
    """Hand the engine's messages on until it ends."""
    try:
        async for message in session.follow(rank):
            engine.handle(message)
            if isinstance(message, Ready):
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                seconds = time.monotonic() - session.started
                session.say(f"serving {session.run.served_name} at http://{shown}:{port}/v1, ready in {seconds:.1f} s")
    except PipelineError as error:
        engine.die(str(error))
        # Whoever waits gets an answer before the server goes.
        await asyncio.sleep(0.1)
        raise


async def _drain(session: Session, engine: EngineClient, listen: "asyncio.Task[None]") -> None:
    if engine.ready is None:
        session.say("stopped while loading")
        return
    seconds = session.run.config.serve.drain_seconds
    session.say(f"draining {engine.num_requests} requests, at most {seconds:g} s; a second signal ends at once")
    num_lost = await engine.drain(seconds)
    await asyncio.wait({listen}, timeout=LINGER_SECONDS)
    if num_lost:
        raise ServeError(f"gave up on {num_lost} requests after {seconds:g} s", hint="raise serve.drain_seconds")
    session.say("drained")


def _handle_signals(stop: asyncio.Event, rank: Rank) -> None:
    def on_signal(number: int) -> None:
        if stop.is_set():
            rank.process.kill()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
