"""What an item must be for a step to take it, whatever way it came. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sendnn_pipeline.engines.vocabulary import why_outside


@dataclass(frozen=True)
class Fault:
    """What is wrong with one item of a request, or, at index -1, with the request."""

    index: int
    code: Literal["empty_input", "invalid_value", "context_length_exceeded"]
    message: str
    """Follows the item's name."""


@dataclass(frozen=True)
class Door:
    """The bounds of the embedding and of the Programs: an item past them would end the process, not the request."""

    vocab_size: int
    max_tokens: int

    def find_fault(self, items: Sequence[Sequence[int]], offsets: Sequence[int] = ()) -> Fault | None:
        """Return the first fault of a request; None where every item can be computed.

        Args:
            items: token ids.
            offsets: where the second text of each pair begins, or a text behind its prompt; empty where there is none.
        """
        if not items:
            return Fault(-1, "empty_input", "it has no items")
        if offsets and len(offsets) != len(items):
            return Fault(-1, "invalid_value", f"{len(items)} items have {len(offsets)} offsets")
        faults = (self._fault_of(index, ids) for index, ids in enumerate(items))
        fault = next((fault for fault in faults if fault is not None), None)
        if fault is not None:
            return fault
        pairs = enumerate(zip(items, offsets, strict=False))
        outside = (
            Fault(i, "invalid_value", f"has a second part that begins at {at}")
            for i, (ids, at) in pairs
            if not 0 <= at <= len(ids)
        )
        return next(outside, None)

    def _fault_of(self, index: int, ids: Sequence[int]) -> Fault | None:
        if not ids:
            return Fault(index, "empty_input", "has no tokens")
        if wrong := why_outside(ids, self.vocab_size):
            return Fault(index, "invalid_value", wrong)
        if len(ids) > self.max_tokens:
            message = f"has {len(ids)} tokens; the longest Program takes {self.max_tokens}"
            return Fault(index, "context_length_exceeded", message)
        return None
