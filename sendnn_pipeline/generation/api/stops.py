"""Stop strings in a text that comes in pieces."""

from collections.abc import Sequence


class StopFinder:
    """Holds back what may be the beginning of a stop string, and finds the first one.

    Args:
        stops: none of them empty.
        include: whether the stop string is part of the text.
    """

    def __init__(self, stops: Sequence[str], *, include: bool) -> None:
        self._stops, self._include = stops, include
        self._pending = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Return the text that is sure now, and the stop string that ends it; None where it goes on."""
        if not self._stops:
            return text, None
        pending = self._pending + text
        found = min(((pending.find(stop), stop) for stop in self._stops if stop in pending), default=None)
        if found is not None:
            at, stop = found
            return pending[: at + len(stop) if self._include else at], stop
        begin = min(begin_of(pending, stop) for stop in self._stops)
        self._pending = pending[begin:]
        return pending[:begin], None

    def flush(self) -> str:
        """Return what is pending: nothing follows, or stop strings do not count yet."""
        pending, self._pending = self._pending, ""
        return pending


def begin_of(text: str, stop: str) -> int:
    """Return where the longest end of ``text`` begins that ``stop`` begins with; its length where there is none."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return at
        at = text.find(stop[0], at + 1)
    return len(text)
