"""The last errors that clients were given, for the page."""

import time
from dataclasses import dataclass, field
from typing import Any

from sendnn_pipeline.frontend.errors import RequestError

MAX_ERRORS = 20
MAX_MESSAGE_LENGTH = 300


@dataclass(frozen=True)
class RecentErrors:
    """The last errors, each once, however often it came."""

    _counts: dict[tuple[int, str, str], tuple[int, float]] = field(default_factory=dict)
    """How often and when last, by status, route and message; the newest is the last."""

    def add(self, route: str, error: RequestError) -> None:
        """Note what a request to ``route`` was refused with."""
        key = (error.status, route, error.message[:MAX_MESSAGE_LENGTH])
        count, _ = self._counts.pop(key, (0, 0.0))
        self._counts[key] = (count + 1, time.time())
        if len(self._counts) > MAX_ERRORS:
            del self._counts[next(iter(self._counts))]

    def list(self) -> list[dict[str, Any]]:
        """Return them, the newest first; ``time`` is when it came last, in Unix seconds."""
        return [
            {"time": last, "count": count, "status": status, "route": route, "message": message}
            for (status, route, message), (count, last) in reversed(self._counts.items())
        ]
