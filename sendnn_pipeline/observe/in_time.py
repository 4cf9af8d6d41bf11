"""A call of code that may hang, off the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_time(call: Callable[[], T], seconds: float) -> T:
    """Return what ``call`` returns, from a thread of its own; one that hangs is left behind and ends with the process.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]  # a value where there is no error

    def run() -> None:
        value, failed = None, None
        try:
            value = call()
        except Exception as error:
            failed = error
        # Nobody may listen any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, value, failed)

    threading.Thread(target=run, name="in-time", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await result
    except TimeoutError:
        raise TimeoutError(f"it took more than {seconds:g} s") from None
