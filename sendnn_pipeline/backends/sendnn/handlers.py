"""Signal handlers, put back after a library took them."""

import signal
import threading
from collections.abc import Mapping
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def current_handlers() -> dict[signal.Signals, Any]:
    """Return who handles the signals that end a process."""
    return {number: signal.getsignal(number) for number in SIGNALS}


def put_back(handlers: Mapping[signal.Signals, Any]) -> None:
    """Give signals back; only the main thread may, and in any other nothing of Python's was taken.

    Always and not only where a handler differs: one that was installed behind Python's back does not show.
    """
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
