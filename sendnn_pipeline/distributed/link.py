"""Between those who start ranks on several machines: each hears when another ends, and why."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from sendnn_pipeline.distributed import curve
from sendnn_pipeline.distributed.port import LAST_MESSAGE_MS

HEARTBEAT_MS = 1000
# A node of which nothing is heard for so long is gone: it is cut off, without power, or stopped.
SILENT_MS = 10_000
LINGER_MS = 1000
BEGUN = (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED)
EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


@dataclass
class Link:
    """Of node 0 a socket for each other node, of the others one to node 0."""

    last_word: str = ""
    """What the others are told when it is closed, unless they were told an end before."""
    _sockets: dict[int, Any] = field(default_factory=dict, init=False)
    _events: dict[int, Any] = field(default_factory=dict, init=False)
    _told: bool = field(default=False, init=False)

    def listen(self, node: int, ip: str) -> str:
        """Listen for another node, and return what it has to connect by."""
        return curve.listen(self._open(node), ip)

    def connect(self, told: str) -> None:
        """Connect to node 0, by what its ``listen`` returned."""
        curve.connect(self._open(0), told)

    def _open(self, node: int) -> Any:
        socket = zmq.asyncio.Context.instance().socket(zmq.PAIR)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)
        self._events[node] = socket.get_monitor_socket(EVENTS)
        self._sockets[node] = socket
        return socket

    @property
    def nodes(self) -> tuple[int, ...]:
        """Those that it is to."""
        return tuple(self._sockets)

    async def end_of(self, node: int) -> str:
        """Wait for another node's end, and return how it came to that; empty where all was done."""
        gone = asyncio.ensure_future(self._disconnected(node))
        word = asyncio.ensure_future(self._sockets[node].recv())
        try:
            await asyncio.wait({gone, word}, return_when=asyncio.FIRST_COMPLETED)
            if not word.done():
                # Its last words may come a moment after the end of its connection is announced.
                await asyncio.wait({word}, timeout=LAST_MESSAGE_MS / 1000)
            if not word.done():
                return f"node {node} is gone"
            told = word.result().decode()
            return told and f"node {node}: {told}"
        finally:
            for task in (gone, word):
                task.cancel()
            await asyncio.gather(gone, word, return_exceptions=True)

    async def _disconnected(self, node: int) -> None:
        """Wait for the end of the connection with a node; others come by, as who looks for open ports does."""
        connections: set[int] = set()
        own: set[int] = set()
        while True:
            message = parse_monitor_message(await self._events[node].recv_multipart())
            event, descriptor = message["event"], message["value"]
            if event in BEGUN:
                connections.add(descriptor)
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                # Of whose connection it does not say: of one of these.
                own = set(connections)
            else:
                connections.discard(descriptor)
                if descriptor in own:
                    own.discard(descriptor)
                    if not own:
                        return

    async def say(self, word: str) -> None:
        """Tell the others of this node's end; empty where all is done."""
        self._told = True
        for socket in self._sockets.values():
            with suppress(zmq.Again):
                await socket.send_string(word, zmq.NOBLOCK)

    def close(self) -> None:
        """Close; what was told is sent first."""
        for socket in self._sockets.values():
            if not self._told:
                with suppress(zmq.Again):
                    zmq.Socket.shadow(socket).send_string(self.last_word, zmq.NOBLOCK)
            socket.disable_monitor()
            socket.close(linger=LINGER_MS)
        for events in self._events.values():
            events.close(linger=0)
        self._sockets, self._events = {}, {}
