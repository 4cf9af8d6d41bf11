"""The two kinds of step over a paged cache: a chunk of one prompt, and one token more for several texts.

Keys are kept with their tokens last and values with their sizes last, so that both products read along memory:
keys ``[blocks, heads, size, block size]``, values ``[blocks, heads, block size, size]``.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class PagedStep:
    """Where the tokens of a step are written in the cache of one layer."""

    keys: torch.Tensor
    values: torch.Tensor
    slots: torch.Tensor
    """``[tokens]``: block times block size plus offset."""
    calls: list[int] = field(default_factory=list)
    """One entry a call of attention: a model that goes its own way must be noticed."""

    def _write(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.calls.append(len(self.calls))
        size = self.values.shape[2]
        blocks, offsets = self.slots // size, self.slots % size
        self.keys[blocks, :, :, offsets] = key.transpose(1, 2).flatten(0, 1)
        self.values[blocks, :, offsets] = value.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class ChunkStep(PagedStep):
    """A chunk of one prompt: one row of many queries."""

    block_table: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]`` up to the chunk's end."""
    positions: torch.Tensor = None  # type: ignore[assignment]
    """``[queries]``."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend to the prompt up to each query."""
        self._write(key, value)
        keys, values = self.keys, self.values
        seen = torch.arange(self.block_table.shape[0] * values.shape[2])[None] <= self.positions[:, None]
        if window is not None:
            seen &= self.positions[:, None] - torch.arange(seen.shape[1])[None] < window
        heads = query.shape[1] // key.shape[1]
        mine = keys[self.block_table].permute(1, 0, 3, 2).flatten(1, 2).repeat_interleave(heads, 0)[None]
        worth = values[self.block_table].transpose(0, 1).flatten(1, 2).repeat_interleave(heads, 0)[None]
        return F.scaled_dot_product_attention(query, mine, worth, attn_mask=seen, scale=scaling)


@dataclass(frozen=True)
class TokenStep(PagedStep):
    """One token more for several texts: rows of one query. Its blocks are those of all rows, one after the other."""

    blocks: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``: of all rows."""
    row_of_block: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``."""
    start_of_block: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``: the position of its first token."""
    positions: torch.Tensor = None  # type: ignore[assignment]
    """``[rows]``: of each query."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend block by block, and put the blocks of each row together by their largest scores."""
        self._write(key, value)
        keys, values = self.keys, self.values
        rows, num_heads, _, size = query.shape
        num_keys = key.shape[1]
        grouped = query.reshape(rows, num_keys, num_heads // num_keys, size)
        # A compiler that fuses would rotate each query again for every key; a view of strides needs it in memory.
        grouped = grouped.as_strided(grouped.shape, grouped.stride())[self.row_of_block].float()
        scores = (grouped[..., None] * keys[self.blocks].float()[:, :, None]).sum(3)
        scores = scores * (size**-0.5 if scaling is None else scaling)
        token = self.start_of_block[:, None] + torch.arange(values.shape[2])[None]
        position = self.positions[self.row_of_block][:, None]
        seen = token <= position
        if window is not None:
            seen = seen & (position - token < window)
        scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
        # [rows, blocks]: which blocks are whose.
        mine = self.row_of_block[None] == torch.arange(rows)[:, None]
        largest = scores.amax(-1)
        best = largest[None].masked_fill(~mine[:, :, None, None], -torch.inf).amax(1)
        weights = torch.exp(scores - best[self.row_of_block][..., None])
        sums = (weights[..., None] * values[self.blocks].float()[:, :, None]).sum(3)
        # A row that is not finite stays so, as nothing over nothing; zero times its numbers must not reach others.
        parts = torch.cat([sums, weights.sum(-1, keepdim=True)], -1).flatten(1).nan_to_num(0.0, 0.0, 0.0)
        whole = (mine.to(parts.dtype) @ parts).view(rows, num_heads, size + 1)
        return (whole[..., :size] / whole[..., size:]).to(query.dtype)[:, :, None]
