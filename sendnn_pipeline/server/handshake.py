"""Clients of HTTPS until their handshake is done: each has a place among the others, and a time, as one that asks."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from sendnn_pipeline.server.connection import Connection
from sendnn_pipeline.server.room import Room, Wait

# After the process could open no more files.
PAUSE_SECONDS = 0.1


class Handshake:
    """A client that agrees on keys, in the place that its ``Connection`` takes over.

    Args:
        client: that was accepted.
        tls: what HTTPS is spoken with.
        connection: for afterwards.
    """

    def __init__(self, client: socket.socket, tls: ssl.SSLContext, connection: Connection) -> None:
        self.client, self.tls, self.connection = client, tls, connection
        self._task: asyncio.Task[None] | None = None

    def begin(self, room: Room) -> None:
        """Take a place and agree."""
        self._task = asyncio.get_running_loop().create_task(self._agree())
        self.connection.connections.add(self)  # type: ignore[arg-type]  # uvicorn asks no more of them than `shutdown`
        room.enter(self, self.connection.connections)  # type: ignore[arg-type]  # of these two classes, all

    async def _agree(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            # The room has the time: this one is the library's for the end of a connection, too.
            await loop.connect_accepted_socket(lambda: self.connection, self.client, ssl=self.tls)
        except OSError:
            # Theirs to know: they left, or do not speak it.
            self.client.close()
        except asyncio.CancelledError:
            self.client.close()
            raise
        finally:
            self.connection.connections.discard(self)

    @property
    def is_silent(self) -> bool:
        """Whether it never made a request: it cannot yet."""
        return True

    @property
    def is_idle(self) -> bool:
        """Whether all of its requests are answered: it has none."""
        return True

    @property
    def is_leaving(self) -> bool:
        """Whether it is being closed, or its connection has its place."""
        return self._task is None or bool(self._task.cancelling()) or self.connection.transport is not None

    def leave(self) -> None:
        """Close at once."""
        if self._task is not None and not self.is_leaving:
            self._task.cancel()

    shutdown = leave

    def waits(self) -> tuple[Wait, object, int] | None:
        """Return what the client keeps the server waiting for: as long as for a head."""
        return None if self.is_leaving else (Wait.head, self, 0)

    def give_up(self, wait: Wait, seconds: float) -> None:
        """End a handshake that took too long."""
        self.leave()


async def accept(listening: socket.socket, tls: ssl.SSLContext, room: Room, make: Callable[[], Any]) -> None:
    """Take clients of HTTPS until this is cancelled; ``make`` returns a connection for the next one."""
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    while True:
        try:
            client, _ = await loop.sock_accept(listening)
        except OSError:
            # It left already, or there are no files to open: others close theirs.
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Handshake(client, tls, make()).begin(room)
