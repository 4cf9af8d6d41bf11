"""Torch's threads in a rank."""

from collections.abc import Iterator
from contextlib import contextmanager


def set_torch_threads(threads: int) -> int:
    """Tell torch, which reads its variable once, when another library may have been first; return its threads.

    Args:
        threads: of this process; 0 leaves them as they are.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Have torch compute with so many threads within; 0 leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    set_torch_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
