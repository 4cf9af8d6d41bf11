"""The two kinds of step over a paged cache: chunks of several prompts, and one token more for several texts.

Keys are kept with their tokens last and values with their sizes last, so that both products read along memory:
keys ``[blocks, heads, size, block size]``, values ``[blocks, heads, block size, size]``.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from sendnn_pipeline.generation.model.scores import attend_by_scores

# Query heads of one key head up to which their products are written out one by one.
MAX_HEADS = 8
# Ways of embedding bags, which put together what belongs to one row.
SUM, LARGEST = 0, 2
# Numbers of two bytes in a line of the CPU's cache.
LINE = 32


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
        found, made = (key.shape[1], key.shape[3], value.shape[3]), (*self.keys.shape[1:3], self.values.shape[3])
        if found != made:
            raise NotImplementedError(f"keys and values of other sizes than config.json says: {found}, not {made}")
        size = self.values.shape[2]
        blocks, offsets = self.slots // size, self.slots % size
        self.keys[blocks, :, :, offsets] = key.transpose(1, 2).flatten(0, 1).to(self.keys.dtype)
        self.values[blocks, :, offsets] = value.transpose(1, 2).flatten(0, 1).to(self.values.dtype)


@dataclass(frozen=True)
class ChunkStep(PagedStep):
    """Chunks of several prompts, one after the other; in attention each is a row of as many queries as the longest."""

    positions: torch.Tensor = None  # type: ignore[assignment]
    """``[tokens]``."""
    queries: torch.Tensor = None  # type: ignore[assignment]
    """``[prompts, queries]``: which token each is; a chunk with fewer repeats any."""
    row_of_token: torch.Tensor = None  # type: ignore[assignment]
    """``[tokens]``: whose query each is."""
    query_of_token: torch.Tensor = None  # type: ignore[assignment]
    """``[tokens]``: which of its queries."""
    block_tables: torch.Tensor = None  # type: ignore[assignment]
    """``[prompts, blocks]`` up to each chunk's end; behind it, any block."""
    scores: bool = False
    """Whether scores are written out."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend to each prompt up to each query."""
        self._write(key, value)
        # Compared as the numbers that they decide on: masks of integers are made over, vector by vector.
        position = stored(self.positions.float()[self.queries])[:, :, None]
        token = stored(torch.arange(self.block_tables.shape[1] * self.values.shape[2], dtype=torch.float32))
        seen = token <= position
        if window is not None:
            seen &= position - token < window
        keys = self.keys[self.block_tables].permute(0, 2, 3, 1, 4).flatten(3, 4)
        values = self.values[self.block_tables].transpose(1, 2).flatten(2, 3)
        rows = query[0].transpose(0, 1)[self.queries].to(self.keys.dtype)
        if self.scores:
            found = attend_by_scores(rows, keys, values, seen, scaling)
        else:
            heads = query.shape[1] // key.shape[1]
            mine, worth = keys.transpose(2, 3).repeat_interleave(heads, 1), values.repeat_interleave(heads, 1)
            rows, mask = rows.transpose(1, 2), seen[:, None]
            found = F.scaled_dot_product_attention(rows, mine, worth, attn_mask=mask, scale=scaling)
        # By row and query and not by one number for both, of which a compiler would divide for every number it copies.
        _, heads, tokens, size = query.shape
        answers = found[self.row_of_token, :, self.query_of_token].contiguous()
        return answers.as_strided((1, heads, tokens, size), (heads * tokens * size, size, heads * size, 1))


@dataclass(frozen=True)
class TokenStep(PagedStep):
    """One token more for several texts: rows of one query. Its blocks are those of all rows, one after the other."""

    blocks: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``: of all rows."""
    row_of_block: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``."""
    start_of_block: torch.Tensor = None  # type: ignore[assignment]
    """``[blocks]``: the position of its first token."""
    first_blocks: torch.Tensor = None  # type: ignore[assignment]
    """``[rows]``: where each one's begin among all blocks."""
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
        grouped = stored(grouped.to(self.keys.dtype))[self.row_of_block].float()
        scores = _products(grouped, keys[self.blocks].float())
        scores = scores * (size**-0.5 if scaling is None else scaling)
        token = self.start_of_block.float()[:, None] + torch.arange(values.shape[2], dtype=torch.float32)[None]
        position = self.positions.float()[self.row_of_block][:, None]
        seen = token <= position
        if window is not None:
            seen = seen & (position - token < window)
        scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
        largest = scores.amax(-1).flatten(1)
        best = self._by_row(largest, LARGEST)
        weights = torch.exp(scores - best[self.row_of_block].view(*scores.shape[:-1], 1))
        sums = _products(weights, values[self.blocks].float())
        parts = torch.cat([sums, weights.sum(-1, keepdim=True)], -1).flatten(1)
        whole = self._by_row(parts, SUM).view(rows, num_heads, size + 1)
        return (whole[..., :size] / whole[..., size:]).to(self.values.dtype)[:, :, None]

    def _by_row(self, of_blocks: torch.Tensor, way: int) -> torch.Tensor:
        """Return ``[rows, n]`` of ``[blocks, n]``, each row's of its own blocks alone."""
        if self.positions.shape[0] == 1:
            return (of_blocks.sum if way == SUM else of_blocks.amax)(0, keepdim=True)
        bags, every = torch.ops.aten._embedding_bag_forward_only, torch.arange(of_blocks.shape[0])
        found: torch.Tensor = bags(of_blocks, every, self.first_blocks, mode=way)[0]
        return found


def stored(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of strides, for which a compiler has its numbers in memory: else it makes each for every reader."""
    return tensor.as_strided(tensor.shape, tensor.stride())


def _products(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return ``[blocks, key heads, heads, n]`` of ``[..., heads, m]`` and ``[..., m, n]``.

    Written out head by head: loops over the same columns are fused, and each is then read and converted once.
    """
    if rows.shape[2] > MAX_HEADS:
        return (rows[..., None] * columns[:, :, None]).sum(3)
    heads, parts = rows[..., None].unbind(2), torch.split(columns, LINE, -1)
    return torch.stack([torch.cat([(head * part).sum(2) for part in parts], -1) for head in heads], 2)
