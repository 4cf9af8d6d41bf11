"""When the engine was last heard, and whether it has been silent for too long. No torch."""

import time

from sendnn_pipeline.messages import Alive, FromEngine, StepDone

# An engine that answers nothing for this long, and for so many of its slowest steps, while requests wait is stalled.
STALLED_SECONDS = 30.0
STALLED_STEPS = 20
# Ranks without work are heard once a second.
STALLED_IDLE_SECONDS = 3.0


class Heard:
    """When each rank was last heard. Times are seconds of the monotonic clock.

    Args:
        stall_seconds: without a word, after which a rank counts as stalled.
    """

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self.begin()

    def begin(self) -> None:
        """Forget what was: the engine is another one."""
        self._at = self._worked_at = time.monotonic()
        self._others: list[float] = []
        self._beats = False
        self._last_step: float | None = None

    def hear(self, message: FromEngine) -> None:
        """Note a message of the first rank, which hears the others."""
        now = time.monotonic()
        self._at = now
        if isinstance(message, Alive):
            # A loop that goes round proves no work: a step in another thread may hang.
            self._beats, self._others = True, message.silent_seconds[1:]
        else:
            self._worked_at = now
        if isinstance(message, StepDone):
            self._last_step = now

    def begin_waiting(self) -> None:
        """Note that a first request waits: until now there was no work to hear of."""
        self._worked_at = time.monotonic()

    def stalled(self, *, waiting: bool, slowest_ms: float) -> str | None:
        """Return who has been silent for too long, and for how long; None where nobody has.

        Args:
            waiting: whether requests wait.
            slowest_ms: of the engine's steps.
        """
        if not waiting and not self._beats:
            return None
        now = time.monotonic()
        limit = max(self._stall_seconds, STALLED_STEPS * slowest_ms / 1000, 0.0 if waiting else STALLED_IDLE_SECONDS)
        first = max(now - self._at if self._beats else 0.0, now - self._worked_at if waiting else 0.0)
        # While the first rank is silent, nothing is known of the others.
        silent = {rank: seconds for rank, seconds in enumerate([first, *self._others]) if seconds > limit}
        if not silent:
            return None
        who = "the engine" if 0 in silent else " and ".join(f"rank {rank}" for rank in silent)
        step = "" if self._last_step is None else f"; the last step ended {now - self._last_step:.0f} s ago"
        why = "requests wait and " if waiting else ""
        return f"{why}{who} has been silent for {max(silent.values()):.0f} s{step}"
