"""How many clients there is room for, how long they may keep the server waiting, and which go when more come."""

import resource
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

# Places beyond those of serve.max_connections, where only probes are answered.
FOR_PROBES = 16
# Files that the process may yet open.
SPARE_FILES = 16


class Wait(StrEnum):
    """What a client keeps the server waiting for."""

    head = "head"
    body = "body"
    reading = "reading"
    """That it reads its answer."""


class Client(Protocol):
    """A connection, as the room sees it."""

    @property
    def is_silent(self) -> bool:
        """Whether it never made a request."""

    @property
    def is_idle(self) -> bool:
        """Whether all of its requests are answered."""

    def waits(self) -> tuple[Wait, object, int] | None:
        """Return what the client keeps the server waiting for, of which request, and how much is left.

        None where it is for nothing. It is the same wait for as long as all three are the same.
        """

    def give_up(self, wait: Wait, seconds: float) -> None:
        """End a wait that took so long."""

    def leave(self) -> None:
        """Close at once."""

    @property
    def is_leaving(self) -> bool:
        """Whether it is being closed."""


@dataclass
class Room:
    """The clients are looked at from time to time, so that keeping watch costs a request nothing.

    Args:
        size: most connections.
        seconds: most of each wait.
    """

    size: int
    seconds: Mapping[Wait, float]
    _waits: "dict[Client, tuple[tuple[Wait, object, int], float]]" = field(default_factory=dict)

    def look(self, clients: Collection[Client], now: float) -> None:
        """Give up on those that took too long; ``now`` in seconds of one clock."""
        before, self._waits = self._waits, {}
        for client in list(clients):
            wait = client.waits()
            if wait is None:
                continue
            last, since = before.get(client, (wait, now))
            if not _is_same(last, wait):
                since = now
            kind, seconds = wait[0], self.seconds[wait[0]]
            if now - since >= seconds:
                client.give_up(kind, seconds)
            else:
                self._waits[client] = wait, since

    def is_full(self, num_clients: int) -> bool:
        """Return whether there are more than may be."""
        return num_clients > self.size

    def enter(self, client: Client, clients: Collection[Client]) -> bool:
        """Make room for ``client``, one of ``clients``, and return whether there is; where not, it may be a probe.

        One that asks for nothing goes first, then one that has had its answers, then the one that is slowest.
        """
        if not self.is_full(len(clients)):
            return True
        others = [other for other in clients if other is not client and not other.is_leaving]
        if len(others) < self.size:
            return True
        slow = (other for other in self._waits if not other.is_leaving)
        for first in (
            next((other for other in others if other.is_silent), None),
            next((other for other in others if other.is_idle), None),
            min(slow, key=lambda other: self._waits[other][1], default=None),
        ):
            if first is not None:
                first.leave()
                return True
        if len(others) >= self.size + FOR_PROBES:
            client.leave()
        return False


def _is_same(one: tuple[Wait, object, int], other: tuple[Wait, object, int]) -> bool:
    return one[0] is other[0] and one[1] is other[1] and one[2] == other[2]


def num_connections(asked: int) -> int:
    """Return for how many of ``asked`` connections the process may open files."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return asked
    num_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(1, min(asked, most_files - num_open - FOR_PROBES - SPARE_FILES))
