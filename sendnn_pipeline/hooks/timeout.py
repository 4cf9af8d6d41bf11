"""A plugin's code within a time limit, and its failure as one line."""

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sendnn_pipeline.config.environment import PLUGIN_TIMEOUT_SECONDS
from sendnn_pipeline.errors import PipelineError, PluginError


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


def located(error: BaseException) -> str:
    """Return an exception as one line, with the place that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({Path(frame.filename).name}:{frame.lineno})"


@contextmanager
def blame(what: str) -> Iterator[None]:
    """Turn whatever a plugin's code raises into one line that names it.

    Args:
        what: the part and its plugin, such as ``model source acme of plugin acme``.

    Raises:
        PluginError: the body raised; its own ``PipelineError`` passes as it is.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        raise PluginError(f"{what} failed: {located(error)}") from error
