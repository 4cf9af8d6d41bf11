"""The memory that a thread handles signals on, which OpenVINO exchanges."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """What ``sigaltstack(2)`` takes and gives."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """Return this thread's; without an address where it has none."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextmanager
def signal_stack_put_back() -> Iterator[None]:
    """Put back, after the block, what this thread handled signals on.

    On a CPU with AMX each of OpenVINO's cores brings one of its own, and when it goes puts back what was there when it
    came. If two go in the order in which they came, that is one that is unmapped, and the next signal ends the process.
    """
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
