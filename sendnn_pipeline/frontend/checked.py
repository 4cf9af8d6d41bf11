"""What was checked at the edge already, where a check takes long and clients ask for the same again."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

MAX_KNOWN = 256
# Each is a process that computes. What is not done soon is begun again behind the others that were not.
NUM_QUICK, NUM_SLOW = 2, 1

Check = Callable[[str, bool], Awaitable[str | None]]
"""Checks a text, quickly or for as long as a check may take; returns None where it was not done quickly."""


class Checked:
    """The words of checks by what was checked: empty where it is fine."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._quick, self._slow = asyncio.Semaphore(NUM_QUICK), asyncio.Semaphore(NUM_SLOW)

    async def once(self, text: str, check: Check) -> str:
        """Return what a check says of a text, by an earlier one where there was."""
        for places, quick in ((self._quick, True), (self._slow, False)):
            if text in self._known:
                break
            async with places:
                # It may have been checked while this one waited.
                words = None if text in self._known else await check(text, quick)
            if words is not None:
                self._known[text] = words
        words = self._known[text]
        self._known.move_to_end(text)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return words
