"""Copies of weights in oneDNN's own layout, one of each for all Programs that read it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.weak import WeakIdKeyDictionary

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# A layout of oneDNN's depends on the number of rows; this one does well from 1 to 2048.
ROWS = 32


class WeightCopies:
    """Copies that live as long as the first weight that they are made of does."""

    def __init__(self) -> None:
        self._copies: MutableMapping[torch.Tensor, dict[tuple[int, ...], torch.Tensor]] = WeakIdKeyDictionary()

    def packed(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return weights ``[outputs, inputs]``, one after the other, in oneDNN's own layout."""
        copies = self._copies.setdefault(weights[0], {})
        key = tuple(map(id, weights))
        if key not in copies:
            rows = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
            copies[key] = torch.ops.mkldnn._reorder_linear_weight(rows, ROWS)
        return copies[key]
