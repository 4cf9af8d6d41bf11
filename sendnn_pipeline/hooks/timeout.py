"""A plugin's code within a time limit, and its failure as one line."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sendnn_pipeline.config.environment import PLUGIN_TIMEOUT_SECONDS
from sendnn_pipeline.errors import PipelineError, PluginError

STREAMS = ("stdout", "stderr")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Run a plugin's code within a time; what is the process's, its Ctrl-C and its output, stays the process's.

    Only the main thread can be interrupted; others run free.

    Raises:
        TimeoutError: it took longer.
        RuntimeError: it raised KeyboardInterrupt although nobody interrupts, or closed the output.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s ({PLUGIN_TIMEOUT_SECONDS})")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        if callable(interrupting):
            interrupting(number, frame)

    alarm, interrupting = signal.signal(signal.SIGALRM, expire), signal.getsignal(signal.SIGINT)
    if callable(interrupting):
        signal.signal(signal.SIGINT, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with _output_stays_open():
            yield
    except KeyboardInterrupt:
        if interrupted:
            raise
        raise RuntimeError("it raised KeyboardInterrupt") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        if callable(interrupting):
            signal.signal(signal.SIGINT, interrupting)


@contextmanager
def _output_stays_open() -> Iterator[None]:
    """Open the process's output again where the block closed it, and call that a failure."""
    numbers = {name: number for name in STREAMS if (number := _number_of(name)) is not None}
    copies = {name: os.dup(number) for name, number in numbers.items()}
    try:
        yield
    finally:
        closed = [name for name in copies if getattr(sys, name).closed]
        for name in closed:
            os.dup2(copies[name], numbers[name])
            stream = open(numbers[name], "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115, PTH123
            setattr(sys, name, stream)
        for copy in copies.values():
            os.close(copy)
    if closed:
        raise RuntimeError(f"it closed {' and '.join(closed)}")


def _number_of(name: str) -> int | None:
    """Return the descriptor of a stream; None where it has none, such as one in memory."""
    try:
        number: int = getattr(sys, name).fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text."""
    if isinstance(error, SystemExit):
        return f"it called exit({error.code})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def located(error: BaseException) -> str:
    """Return an exception as one line, with the file and line that raised it."""
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
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} failed: {located(error)}") from error
