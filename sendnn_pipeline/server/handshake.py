"""A client of HTTPS until its handshake is done: it has a place among the others, and a time, as one that asks."""

import asyncio
import ssl
from typing import Any

from sendnn_pipeline.server.connection import Connection
from sendnn_pipeline.server.room import Room, Wait


class Handshake(asyncio.Protocol):
    """Makes place for a ``Connection`` once both sides agree on keys.

    Args:
        room: shared by all connections.
        tls: what HTTPS is spoken with.
        parts: of uvicorn.
    """

    def __init__(self, *, room: Room, tls: ssl.SSLContext, **parts: Any) -> None:
        self.room, self.tls = room, tls
        self._parts = parts
        self._clients: set[Any] = parts["server_state"].connections
        self._received: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        """Take a place and begin."""
        self.transport = transport
        self._clients.add(self)
        self.room.enter(self, self._clients)
        self._task = asyncio.get_running_loop().create_task(self._agree())

    async def _agree(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self.transport, self, self.tls, server_side=True)
        except OSError:
            # Theirs to know: they left, or do not speak it.
            transport = None
        self._clients.discard(self)
        # One that we gave up comes back without an error.
        if transport is None or self.transport.is_closing():
            self.transport.abort()
            return
        connection = Connection(room=self.room, **self._parts)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        for data in self._received:
            connection.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Keep what comes with the end of the handshake."""
        self._received.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._clients.discard(self)

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
        """Whether it is being closed."""
        return self.transport.is_closing()

    def leave(self) -> None:
        """Close at once."""
        self.transport.abort()

    shutdown = leave

    def waits(self) -> tuple[Wait, object, int]:
        """Return what the client keeps the server waiting for: as long as for a head."""
        return Wait.head, self, 0

    def give_up(self, wait: Wait, seconds: float) -> None:
        """End a handshake that took too long."""
        self.transport.abort()
