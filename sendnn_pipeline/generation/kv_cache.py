"""Memory of keys and values: the kernel gives each page as it is written, by steps or ahead while there are none."""

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.rules import BLOCK_SIZE

# Linux alone has them on request.
LARGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)
# What is written before it is wanted: clearing a gigabyte of pages takes up to a second.
AHEAD_BYTES = 2**30


def make_caches(run: Run) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return keys and values of each layer, all zero: what nobody wrote must not be a NaN."""
    plan, dtype = generation_plan(run), getattr(torch, run.config.model.dtype)
    # Of several ranks, each has the keys and values of its own heads.
    facts, shape = plan.facts, (plan.rules.num_blocks, plan.facts.num_kv_heads // plan.ranks)
    keys, values = (*shape, facts.head_size, BLOCK_SIZE), (*shape, BLOCK_SIZE, facts.head_size)
    return [(_zeros(keys, dtype), _zeros(values, dtype)) for _ in plan.layer_kinds]


@dataclass
class FreshBlocks:
    """Blocks that nobody has had yet. Some of them are written before, so that no step waits for their memory."""

    caches: Sequence[Sequence[torch.Tensor]]
    """Keys and values of each layer."""
    ahead_bytes: int = AHEAD_BYTES
    _begin: int = 0
    _end: int = 0
    _left: list[torch.Tensor] = field(default_factory=list)
    """In which the blocks between these are not written yet."""

    def write(self, first: int) -> bool:
        """Write the keys or the values of one layer; return whether there is more to do.

        Args:
            first: the block from which on nobody has had any.
        """
        if not self._left and not self._go_on(first):
            return False
        self._left.pop()[max(first, self._begin) : self._end] = 0
        return True

    def _go_on(self, first: int) -> bool:
        """Begin with the next blocks, once half of what was written is taken; return whether there are any."""
        tensors = [tensor for layer in self.caches for tensor in layer]
        num_blocks = len(tensors[0])
        ahead = self.ahead_bytes * num_blocks // sum(tensor.nbytes for tensor in tensors)
        if self._end == num_blocks or self._end - first > ahead // 2:
            return False
        self._begin, self._end = max(first, self._end), min(first + ahead, num_blocks)
        self._left = tensors if self._begin < self._end else []
        return bool(self._left)


def _zeros(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Return zeros that take memory once they are written: torch's own would all be written at the start."""
    num_bytes = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if LARGE_PAGES is not None:
        # Within a page the CPU reads ahead. Advice alone: a kernel without large pages takes it for an error.
        with suppress(OSError):
            pages.madvise(LARGE_PAGES)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
