"""Signs of life in a stream that has nothing to say yet, so that no proxy takes it for dead."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

PING = b": ping\n\n"
"""A comment: clients of server-sent events read over it."""
PING_SECONDS = 10.0


async def with_pings(events: AsyncIterator[Any], seconds: float = PING_SECONDS) -> AsyncGenerator[Any, None]:
    """Yield what ``events`` yields, and None whenever it has yielded nothing for so many seconds."""
    iterator = aiter(events)
    following = asyncio.ensure_future(anext(iterator))
    try:
        while True:
            await asyncio.wait({following}, timeout=seconds)
            if not following.done():
                yield None
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            yield event
            following = asyncio.ensure_future(anext(iterator))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
