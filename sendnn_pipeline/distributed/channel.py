"""What rank 0 tells the other ranks, and where all of them meet.

No torch: what a step is travels here, its tensors do not.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from sendnn_pipeline.distributed import curve
from sendnn_pipeline.errors import EngineError, RanksApartError

# How long a rank that failed in a step waits for the others to have failed in it, too.
TOGETHER_SECONDS = 10.0
# What the first rank tells the others where all of them have.
TOGETHER = "together"
# How often ranks without work say that they are there.
BEAT_SECONDS = 1.0
# What they say then, in place of the rank with which they come to a meeting.
BEAT = -1


@dataclass(frozen=True)
class ChannelAddress:
    """How to meet the other ranks of a run, on this machine."""

    address: str
    """The prefix of an address for each rank but the first."""
    wait_seconds: float
    """How long ranks wait for each other when they meet."""

    def bind(self, socket: "zmq.Socket[bytes]", peer: int) -> None:
        """Have the first rank's socket for another one listen."""
        socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
        socket.bind(f"{self.address}-{peer}")

    def connect(self, socket: "zmq.Socket[bytes]", peer: int) -> None:
        """Have that rank's own socket find it."""
        socket.connect(f"{self.address}-{peer}")


@dataclass(frozen=True)
class NetworkChannelAddress(ChannelAddress):
    """The same on several machines: the first rank listens at free ports, which the store says to the others."""

    store: Any

    def bind(self, socket: "zmq.Socket[bytes]", peer: int) -> None:
        """Listen, and say where."""
        self.store.set(f"sendnn/channel/{peer}", curve.listen(socket, self.address))

    def connect(self, socket: "zmq.Socket[bytes]", peer: int) -> None:
        """Wait until the store has it, and find it."""
        curve.connect(socket, self.store.get(f"sendnn/channel/{peer}").decode())


class Channel:
    """A rank's end: of the first rank a socket to each other one, of the others one to the first.

    Raises:
        EngineError: a rank did not come in time.
    """

    def __init__(self, rank: int, size: int, place: ChannelAddress) -> None:
        self.rank, self._wait_seconds = rank, place.wait_seconds
        self._context = zmq.Context()
        self._heard: dict[int, float] = {}
        self._next_beat = 0.0
        peers = range(1, size) if rank == 0 else (rank,)
        self._sockets = {peer: self._open(peer, place) for peer in peers}
        # What is sent to a rank that is not there, or no longer, is lost.
        try:
            self.meet()
        except EngineError:
            self.close()
            raise

    def _open(self, peer: int, place: ChannelAddress) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        (place.connect if self.rank else place.bind)(socket, peer)
        return socket

    def tell(self, value: Any) -> None:
        """Send a value of plain types to all others; of rank 0."""
        frame = msgspec.msgpack.encode(value)
        for socket in self._sockets.values():
            # Of a rank that is gone the parent learns, and ends all.
            with suppress(zmq.Again):
                socket.send(frame, zmq.NOBLOCK)

    def hear(self, timeout_seconds: float | None = None) -> Any:
        """Return the next value that rank 0 tells; waits for ever unless told otherwise.

        Raises:
            TimeoutError: there was none in time.
        """
        (socket,) = self._sockets.values()
        return self._receive(socket, timeout_seconds)

    def meet(self) -> None:
        """Wait until all ranks are here.

        Raises:
            EngineError: one did not come in time.
        """
        if self.rank:
            self._say_here()
            self.hear()
            return
        for rank, socket in self._sockets.items():
            try:
                self._receive(socket, self._wait_seconds)
            except TimeoutError:
                raise EngineError(
                    f"rank {rank} did not come within {self._wait_seconds / 60:g} minutes",
                    hint="raise parallel.gloo_timeout_minutes",
                ) from None
        self.tell(None)

    def arrive(self) -> None:
        """Count as having come to a meeting, without waiting for the others; the first rank lets them go."""
        if self.rank:
            self._say_here()
        else:
            self.tell(None)

    def _say_here(self) -> None:
        (socket,) = self._sockets.values()
        with suppress(zmq.Again):
            socket.send(msgspec.msgpack.encode(self.rank), zmq.NOBLOCK)

    def beat(self) -> None:
        """Tell the first rank that this one is there, if that was not told just now; of the others."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            (socket,) = self._sockets.values()
            with suppress(zmq.Again):
                socket.send(msgspec.msgpack.encode(BEAT), zmq.NOBLOCK)

    def silent_seconds(self) -> list[float]:
        """Return for how long each other rank has said nothing; of rank 0, between meetings."""
        now = time.monotonic()
        for rank, socket in self._sockets.items():
            while socket.poll(0):
                word = msgspec.msgpack.decode(socket.recv())
                if word != BEAT:
                    raise RanksApartError(f"rank {rank} failed and others did not", hint="the lines above may say why")
                self._heard[rank] = now
        return [now - self._heard.setdefault(rank, now) for rank in self._sockets]

    def failed_together(self) -> bool:
        """Say that this rank failed in what it was told to do, and return whether all others did, too."""
        try:
            if self.rank:
                self._say_here()
                # Anything else is the next command: the first rank did not fail.
                return bool(self.hear(TOGETHER_SECONDS) == TOGETHER)
            for socket in self._sockets.values():
                self._receive(socket, TOGETHER_SECONDS)
            self.tell(TOGETHER)
        except TimeoutError:
            return False
        return True

    @staticmethod
    def _receive(socket: "zmq.Socket[bytes]", timeout_seconds: float | None) -> Any:
        """Return the next value that is no beat."""
        ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while socket.poll(None if ends is None else max(0, int((ends - time.monotonic()) * 1000))):
            value = msgspec.msgpack.decode(socket.recv())
            if value != BEAT:
                return value
        raise TimeoutError

    def close(self) -> None:
        """Close; what was told is sent first."""
        for socket in self._sockets.values():
            socket.close(linger=1000)
        self._context.term()


def meetings(rank: int, size: int, limit: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return how often a rank meets the others before and after it works, where ``limit`` ranks work at once.

    Sets of ``limit`` ranks follow one another; all meet as often as there are sets, so that all leave together.
    """
    if not 0 < limit < size:
        return (), ()
    sets = -(-size // limit)
    mine = rank // limit
    return range(mine), range(sets - mine)
