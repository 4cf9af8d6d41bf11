"""A word now and then of ranks that have none: who is stopped says nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sendnn_pipeline.distributed.channel import BEAT_SECONDS
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.messages import Alive, FromEngine


@dataclass
class Pulse:
    """Of the first rank, which hears the others."""

    world: World
    send: Callable[[FromEngine], None]
    _next: float = field(default=0.0, init=False)

    def beat(self) -> None:
        """Say for how long each rank has been silent, if that was not said just now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BEAT_SECONDS
            self.send(Alive(self.world.silent_seconds()))
