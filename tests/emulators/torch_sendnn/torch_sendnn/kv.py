"""The KV cache on the card. What the host holds is a name of it: its numbers mean nothing once a graph ran."""

from collections.abc import Sequence

import torch
from torch.utils.weak import WeakIdKeyDictionary

from torch_sendnn.errors import DeviceError


class KvMemory:
    """The card's own KV tensors, by the host tensors that stand for them."""

    def __init__(self) -> None:
        self._real: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._stale: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.blocks: int | None = None
        """How many are compiled in."""

    def check_blocks(self, tensors: Sequence[torch.Tensor]) -> None:
        """Remember how many blocks there are, or refuse another number."""
        for tensor in tensors:
            if self.blocks not in (None, tensor.shape[0]):
                raise DeviceError(f"{tensor.shape[0]} KV blocks, and {self.blocks} are compiled in")
            self.blocks = tensor.shape[0]

    def read(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the card holds for host tensors: those of the last call, or new ones."""
        if any(tensor in self._stale for tensor in tensors):
            raise DeviceError("a KV tensor of an earlier call: what a call returns takes its place")
        known = [tensor in self._real for tensor in tensors]
        if any(known) and not all(known):
            raise DeviceError("KV tensors of the last call together with new ones")
        found = [self._real.pop(tensor, tensor) for tensor in tensors]
        # Of new ones, too: what stood for the cache before them does so no more.
        for tensor in (*self._real, *tensors):
            self._stale[tensor] = True
        self._real.clear()
        copies = [real.clone() if real is tensor else real for real, tensor in zip(found, tensors, strict=True)]
        for tensor in tensors:
            tensor.fill_(float("nan"))
        return copies

    def write(self, real: torch.Tensor) -> torch.Tensor:
        """Keep a tensor on the card and return its ghost."""
        ghost = torch.full_like(real, float("nan"))
        self._real[ghost] = real
        return ghost
