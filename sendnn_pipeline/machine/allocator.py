"""What the C library does with memory that a step has done with."""

import ctypes

# Of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
# More than this at once is given back.
THRESHOLD_BYTES = 256 * 2**20


def reuse_freed_memory() -> None:
    """Have the next step take what this one frees: given back, its pages would all be cleared and mapped anew.

    Where the C library is another than glibc, it has ways of its own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, THRESHOLD_BYTES)
        mallopt(MMAP_THRESHOLD, THRESHOLD_BYTES)
