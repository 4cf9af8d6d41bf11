"""What crosses between an engine and its process of grammars."""

import msgspec

NO_TEXT = -1
"""The text of a mask that says whether the process can be used."""


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A text begins: what may come first?"""

    text_id: int
    grammar: str
    """As llguidance writes them, a JSON object."""
    token_ids: list[int] = []
    """That it has already, after a process that ended."""


class Advance(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A token was chosen: what may come next?"""

    text_id: int
    token_id: int


class End(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A text has ended."""

    text_id: int


ToWorker = Begin | Advance | End


class Mask(msgspec.Struct, frozen=True, array_like=True):
    """Which tokens may come next in a text; the answer to every ``Begin`` and ``Advance``."""

    text_id: int
    bits: bytes
    """One for each token, the lowest bit of a byte first; empty with an error."""
    complete: bool = False
    """Whether nothing but an end of text may come."""
    error: str = ""
    """Why there is no mask, now and later."""
