"""The typed message port between the edge and the engine: msgpack frames over a socket that only we can open."""

import asyncio
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from sendnn_pipeline.messages import FromEngine, ToEngine

# The end of a connection is announced a moment before its last messages can be read.
LAST_MESSAGE_MS = 20


def new_address() -> str:
    """Return an address in Linux's abstract namespace: no file, so no path that is too long and none that stays."""
    return f"ipc://@sendnn-{secrets.token_hex(16)}"


class Port:
    """The engine's end: blocks for as long as it is told."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(address)
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: FromEngine) -> None:
        """Queue a message; a background thread of the library sends it."""
        self._socket.send(self._encoder.encode(message))

    def receive(self, timeout_seconds: float, wake: int) -> list[ToEngine]:
        """Return every message that is there, waiting up to ``timeout_seconds`` for the first.

        Args:
            timeout_seconds: how long to wait.
            wake: a file descriptor that ends the wait when it can be read.
        """
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(wake, zmq.POLLIN)
        poller.poll(int(timeout_seconds * 1000))
        messages: list[ToEngine] = []
        while self._socket.poll(0):
            messages.append(self._decoder.decode(self._socket.recv()))
        return messages

    def close(self, linger_seconds: float = 5.0) -> None:
        """Send what is queued, then close: the last words of a process are why it ends."""
        self._socket.close(linger=int(linger_seconds * 1000))
        # Waits for the thread that sends, which else ends with the process.
        self._context.term()


class AsyncPort:
    """The edge's end, on an event loop."""

    def __init__(self, address: str) -> None:
        self._socket = zmq.asyncio.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        # Without a file there are no file permissions: whoever connects must be this user.
        self._socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
        self._events = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._socket.bind(address)
        self._waiting: asyncio.Future[bytes] | None = None
        # The same socket without an event loop, and what it gave: a step's messages come together, and each wait costs.
        self._plain: zmq.Socket[bytes] = zmq.Socket.shadow(self._socket)
        self._frames: deque[bytes] = deque()
        self._decoder = msgspec.msgpack.Decoder(FromEngine)
        self._encoder = msgspec.msgpack.Encoder()

    async def send(self, message: ToEngine) -> None:
        """Queue a message; to an engine that is gone it is lost, and whoever waits hears of its end."""
        with suppress(zmq.Again):
            await self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)

    async def receive(self) -> FromEngine | None:
        """Wait for the next message; None once ``interrupt`` was called."""
        if not self._frames:
            waiting: Any = self._socket.recv()
            self._waiting = waiting
            if not (frame := await waiting):
                return None
            self._frames.append(frame)
            with suppress(zmq.Again):
                while True:
                    self._frames.append(self._plain.recv(zmq.NOBLOCK))
        return self._decode(self._frames.popleft())

    def interrupt(self) -> None:
        """End the wait for a message; one that has come is not lost."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(b"")

    async def rest(self, timeout_seconds: float) -> AsyncIterator[FromEngine]:
        """Yield what an engine that has ended left: all of it is there once its connection is seen to end.

        Args:
            timeout_seconds: how long to wait for that; an engine that never connected is not waited for.
        """
        while self._frames:
            yield self._decode(self._frames.popleft())
        if await self._events.poll(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    while parse_monitor_message(await self._events.recv_multipart())["event"] == zmq.EVENT_ACCEPTED:
                        pass
        while await self._socket.poll(LAST_MESSAGE_MS):
            yield self._decode(await self._socket.recv())

    def _decode(self, frame: bytes) -> FromEngine:
        message: FromEngine = self._decoder.decode(frame)
        return message

    def close(self) -> None:
        """Close at once."""
        self._socket.disable_monitor()
        self._events.close(linger=0)
        self._socket.close(linger=0)
