"""How a client knows what it sent: the field of a request, and each text in it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A field of a request that has texts or token ids."""

    name: str
    is_one: bool = False
    """Whether it is one text, never a list."""
    indexes: Sequence[int] | None = None
    """Of the items in question, where they are some of the field's; None where they are all."""

    def item(self, index: int) -> str:
        """Return what an item is called, by its place among those in question."""
        if self.is_one:
            return self.name
        return f"{self.name}[{index if self.indexes is None else self.indexes[index]}]"


INPUT, INPUTS, TEXTS = Field("input"), Field("inputs"), Field("texts")
