"""What one step computes: values that a runner turns into tensors, whole enough to be sent to other ranks."""

from dataclasses import dataclass

from sendnn_pipeline.generation.rules import BLOCK_SIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A part of a prompt, in rows of whole blocks: left padding, its tokens, and padding to the end of the last block.

    With left padding, chunks have as many rows as the rules' chunk, and the first of a prompt begins with the padding.
    Row ``i`` of the chunk is read and written at token ``len(block_table) * 64 - num_rows + i`` of the table.
    """

    request_id: int
    start: int
    """Position in the prompt of the first token that is computed: a multiple of 64."""
    end: int
    """Position behind the last one."""
    token_ids: tuple[int, ...]
    """The tokens from ``start`` to ``end``."""
    left_padding: int
    """Tokens of padding before the prompt, whole blocks, which the table shows as block 0."""
    block_table: tuple[int, ...]
    """Blocks from the padding's first to the chunk's last: what attention reads."""
    slot_blocks: tuple[int, ...]
    """The block that every 64 rows write to: 0 where the rows are padding, or their block is shared."""
    is_last: bool
    """Whether the prompt ends with it, so that its last token gives the first of the answer."""

    @property
    def num_rows(self) -> int:
        """Rows that are computed, padding included."""
        return len(self.slot_blocks) * BLOCK_SIZE

    @property
    def first_row(self) -> int:
        """The row of the token at ``start``."""
        return self.left_padding + self.start - len(self.block_table) * BLOCK_SIZE + self.num_rows

    @property
    def slots(self) -> list[int]:
        """Where each row writes: block times 64 plus offset."""
        return [block * BLOCK_SIZE + offset for block in self.slot_blocks for offset in range(BLOCK_SIZE)]

    @property
    def token_slots(self) -> list[int]:
        """Where each of its tokens is written."""
        return self.slots[self.first_row : self.first_row + len(self.token_ids)]


@dataclass(frozen=True)
class PrefillStep:
    """Chunks of prompts, each of another request."""

    chunks: tuple[Chunk, ...]
    tkv: int
    """Tokens of the longest of the prompts."""

    @property
    def request_ids(self) -> tuple[int, ...]:
        """Whose chunks run."""
        return tuple(chunk.request_id for chunk in self.chunks)

    @property
    def sampled(self) -> tuple[int, ...]:
        """The requests that get a token, in order."""
        return tuple(chunk.request_id for chunk in self.chunks if chunk.is_last)


@dataclass(frozen=True, kw_only=True)
class DecodeStep:
    """One token more for each of several requests; every field has an entry for each row."""

    request_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """The last token of each request, which is the input."""
    positions: tuple[int, ...]
    """Of those tokens, counted from 0 at the first of the prompt."""
    slots: tuple[int, ...]
    """Where the row writes: block times 64 plus offset."""
    block_tables: tuple[tuple[int, ...], ...]
    """In a rectangular decode, with block 0 before the shorter ones, so that all have the same length."""
    left_padding: tuple[int, ...]
    """Tokens of padding that the table begins with, whole blocks."""
    tkv: int
    """The most tokens of any row, padding and the new one included."""

    @property
    def sampled(self) -> tuple[int, ...]:
        """The requests that get a token, in order."""
        return self.request_ids


Step = PrefillStep | DecodeStep
