"""The typed message port between the edge and the engine: msgpack frames over a socket file only we can open."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from sendnn_pipeline.messages import FromEngine, ToEngine


@contextmanager
def new_address() -> Iterator[str]:
    """Yield the address of a new port in a folder of mode 0700 that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="sendnn-") as folder:
        yield f"ipc://{Path(folder) / 'port'}"


class Port:
    """The engine's end: blocks for as long as it is told."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
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
        """Send what is queued, then close."""
        self._socket.close(linger=int(linger_seconds * 1000))


class AsyncPort:
    """The edge's end, on an event loop."""

    def __init__(self, address: str) -> None:
        self._socket = zmq.asyncio.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.bind(address)
        self._decoder = msgspec.msgpack.Decoder(FromEngine)
        self._encoder = msgspec.msgpack.Encoder()

    async def send(self, message: ToEngine) -> None:
        """Queue a message."""
        await self._socket.send(self._encoder.encode(message))

    async def receive(self) -> FromEngine:
        """Wait for the next message."""
        message: FromEngine = self._decoder.decode(await self._socket.recv())
        return message

    def close(self) -> None:
        """Close at once."""
        self._socket.close(linger=0)
