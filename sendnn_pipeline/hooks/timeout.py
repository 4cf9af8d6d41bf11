"""A plugin's code within a time limit, and its failure as one line."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sendnn_pipeline.config.environment import PLUGIN_TIMEOUT_SECONDS


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a body that runs longer; only the main thread can be interrupted, others run free."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s ({PLUGIN_TIMEOUT_SECONDS})")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text."""
    if isinstance(error, SystemExit):
        return f"it called exit({error.code})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
