"""Tensors and files in memory that two processes share: without a name in any folder, so that none can be left behind.

The kernel frees it with the last process that has it, however that ends.
"""

import os

import torch

MAX_NAME = 30


def memory_name(digest: bytes) -> str:
    """Return what memory of a picture is called where the kernel lists a process's mappings."""
    return f"sendnn-rows-{digest.hex()[:16]}"


def write_bytes(name: str, data: bytes | memoryview) -> int:
    """Return the descriptor of new memory that has ``data``; whoever has it closes it.

    Args:
        name: of at most 30 characters.
        data: that it has.
    """
    assert len(name) <= MAX_NAME
    memory = os.memfd_create(name, os.MFD_CLOEXEC)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(memory, rest) :]
    return memory


def read_bytes(memory: int) -> bytes:
    """Return all that shared memory has, and close it."""
    with os.fdopen(memory, "rb") as stream:
        stream.seek(0)
        return stream.read()


def write_rows(name: str, rows: torch.Tensor) -> int:
    """Return the descriptor of new memory that has the bits of ``rows``."""
    return write_bytes(name, rows.contiguous().flatten().view(torch.uint8).numpy().data)


def read_rows(memory: int, shape: list[int], dtype: str) -> torch.Tensor:
    """Return a copy of the tensor in shared memory, and close it.

    Args:
        memory: a descriptor of ``write_rows``.
        shape: of the tensor, which has at least one number.
        dtype: its name.
    """
    return torch.frombuffer(bytearray(read_bytes(memory)), dtype=getattr(torch, dtype)).reshape(shape)
