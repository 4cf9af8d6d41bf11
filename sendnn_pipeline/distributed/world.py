"""The ranks that run one engine together, as each of them sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Where a rank stands among all; a world of one waits for nobody."""

    rank: int = 0
    size: int = 1

    @contextmanager
    def stagger(self, limit: int) -> Iterator[None]:
        """Let at most ``limit`` ranks into the block at once; 0 lets all in."""
        yield

    def broadcast(self, plan: T) -> T:
        """Return the plan of rank 0 in every rank."""
        return plan

    def __str__(self) -> str:
        return f"{self.rank} of {self.size}"
