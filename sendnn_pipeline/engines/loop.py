"""The loop of every engine: messages in, beats, until it is told to drain and nothing is left."""

from collections.abc import Callable
from typing import Protocol

from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.messages import Drain, ToEngine

IDLE_SECONDS = 1.0


class Inbox(Protocol):
    """Where messages come from."""

    def receive(self, timeout_seconds: float, wake: int) -> list[ToEngine]:
        """Return every message that is there, waiting up to ``timeout_seconds`` for the first, or for ``wake``."""


def run_loop(core: EngineCore, inbox: Inbox, beat: Callable[[], None] = lambda: None) -> None:
    """Serve until drained.

    Args:
        core: of the engine.
        inbox: where messages come from.
        beat: called in every round, of which an idle engine makes one a second.
    """
    draining = busy = False
    while not (draining and core.idle):
        for message in inbox.receive(0.0 if busy else IDLE_SECONDS, core.wake):
            if isinstance(message, Drain):
                draining = True
            else:
                core.take(message)
        busy = core.step()
        beat()
