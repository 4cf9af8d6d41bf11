"""What a pooling request and its answer hold between edge and engine."""

import msgspec


class PoolingRequest(msgspec.Struct, frozen=True):
    """Texts, or pairs of texts, as token ids."""

    items: list[list[int]]
    offsets: list[int] = []
    """Where the second text of each pair begins, or each text behind a prompt; empty where the model need not know."""


class PoolingOutput(msgspec.Struct, frozen=True):
    """Vectors, or a classifier's logits, of some items: little-endian float32, item by item."""

    indices: list[int]
    size: int
    """Numbers of each item."""
    data: bytes
