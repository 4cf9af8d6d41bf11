"""How much of a text, or of a pair of texts, is read. Decides only."""

from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Truncation:
    """Most tokens of each part, without special tokens, and of the whole, with them; None cuts nothing."""

    first: int | None = None
    second: int | None = None
    whole: int | None = None
    side: Side = "right"
    """From which side tokens are taken away."""


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of both texts fit into ``room``: the longer one is cut first, down to the other's length.

    As transformers' strategy of that name.
    """
    if first + second <= room:
        return first, second
    short, long = sorted((first, second))
    # Where both are cut, the odd token is the longer text's.
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)
