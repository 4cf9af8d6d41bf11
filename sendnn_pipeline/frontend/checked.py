"""What was checked at the edge already, where a check takes long and clients ask for the same again."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

MAX_KNOWN = 256
# Each is a process that computes.
MAX_CHECKS = 2


class Checked:
    """The words of checks by what was checked: empty where it is fine."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._places = asyncio.Semaphore(MAX_CHECKS)

    async def once(self, text: str, check: Callable[[str], Awaitable[str]]) -> str:
        """Return what a check says of a text, by an earlier one where there was."""
        if text not in self._known:
            async with self._places:
                # It may have been checked while this one waited.
                if text not in self._known:
                    self._known[text] = await check(text)
        self._known.move_to_end(text)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return self._known[text]
