"""Rows of pictures that were encoded before, by what the pictures show; bounded in bytes."""

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class RowCache:
    """What was used longest ago goes first.

    Args:
        max_bytes: of all rows; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._rows: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, digest: bytes) -> "torch.Tensor | None":
        """Return the rows of a picture; None where they are not here."""
        rows = self._rows.get(digest)
        if rows is not None:
            self._rows.move_to_end(digest)
        return rows

    def put(self, digest: bytes, rows: "torch.Tensor") -> None:
        """Keep the rows of a picture, unless they alone are too many."""
        if rows.nbytes > self.max_bytes:
            return
        old = self._rows.pop(digest, None)
        self._rows[digest] = rows
        self.num_bytes += rows.nbytes - (0 if old is None else old.nbytes)
        while self.num_bytes > self.max_bytes:
            _, gone = self._rows.popitem(last=False)
            self.num_bytes -= gone.nbytes
