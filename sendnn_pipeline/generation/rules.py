"""What a scheduler goes by: limits and policies, as one value. What only some devices need is off by default."""

from dataclasses import dataclass

BLOCK_SIZE = 64
"""Tokens that one block takes the keys and values of."""


def num_blocks_of(num_tokens: int) -> int:
    """Return how many blocks hold ``num_tokens``."""
    return -(-num_tokens // BLOCK_SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Limits and policies of a scheduler.

    By default a prefill step has chunks of any length of several requests, and decode rows keep their own lengths.
    A device whose graphs take one chunk size sets ``left_padding`` and a ``max_prefill_tokens`` of one chunk; one that
    reads every row of a decode to the same length sets ``rectangular_decode``.
    """

    max_num_seqs: int
    """Most requests that are admitted at once."""
    max_model_len: int
    """Most tokens of a request, prompt and answer together."""
    num_blocks: int
    """Blocks of the KV cache; block 0 takes the writes of padding, so one fewer can be used."""
    chunk_size: int
    """Most tokens of a request that one prefill step computes: a multiple of 64."""
    max_prefill_tokens: int
    """Most tokens that one prefill step computes over all requests: 64 or more; with left padding, a chunk or more."""
    interleave: bool = True
    """Run a decode step after every prefill step, as long as some request decodes."""
    pausing: bool = True
    """Admit whatever the volume is going to be and pause decodes later; else, admit only what will never need it."""
    long_output_priority: bool = False
    """Pause the requests with the fewest generated tokens, rather than those with the most."""
    prefix_caching: bool = True
    """Share the blocks of equal prefixes."""
    left_padding: bool = False
    """Prompts are padded on the left, by blocks, to a multiple of the chunk; every chunk has exactly its size."""
    rectangular_decode: bool = False
    """The rows of a decode are padded on the left, by blocks, to the most blocks of any row."""
    max_batch_tkv: int | None = None
    """Most rows times tokens, padding included, of a rectangular decode. A single row may exceed it."""

    def __post_init__(self) -> None:
        assert self.chunk_size >= BLOCK_SIZE and self.chunk_size % BLOCK_SIZE == 0, "chunks are whole blocks"
        assert self.max_prefill_tokens >= (self.chunk_size if self.left_padding else BLOCK_SIZE), "no chunk would fit"
        assert self.max_batch_tkv is None or self.rectangular_decode, "the volume of what is not a rectangle"

    @property
    def longest_chunk(self) -> int:
        """Most tokens of a request that a step computes."""
        return min(self.chunk_size, self.max_prefill_tokens)

    def max_output_tokens(self, num_prompt_tokens: int) -> int:
        """Return the longest answer to a prompt; 0 or less where there is no room for any."""
        padded = num_blocks_of(num_prompt_tokens) * BLOCK_SIZE if self.left_padding else num_prompt_tokens
        return self.max_model_len - padded

    def why_never(self, num_prompt_tokens: int, max_tokens: int) -> str:
        """Return why a request can never run, however long it waits; empty where it can."""
        if num_prompt_tokens < 1 or max_tokens < 1:
            return f"{num_prompt_tokens} prompt tokens and {max_tokens} new ones: both must be 1 or more"
        total = num_prompt_tokens + max_tokens
        if total > self.max_model_len:
            return (
                f"{num_prompt_tokens} prompt tokens and {max_tokens} new ones are {total}, "
                f"more than max_model_len={self.max_model_len}"
            )
        needed, usable = num_blocks_of(total), self.num_blocks - 1
        if needed > usable:
            return f"{total} tokens need {needed} blocks, and num_blocks={self.num_blocks} leaves {usable}"
        return ""


def sendnn_rules(
    *,
    chunk_size: int,
    max_num_seqs: int,
    max_model_len: int,
    num_blocks: int,
    interleave: bool = True,
    pausing: bool = True,
    long_output_priority: bool = False,
    prefix_caching: bool = True,
    max_batch_tkv: int | None = None,
) -> Rules:
    """Return the rules of sendnn: one left-padded chunk a step, rectangular decodes, a limit of their volume."""
    return Rules(
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        chunk_size=chunk_size,
        max_prefill_tokens=chunk_size,
        interleave=interleave,
        pausing=pausing,
        long_output_priority=long_output_priority,
        prefix_caching=prefix_caching,
        left_padding=True,
        rectangular_decode=True,
        max_batch_tkv=max_batch_tkv,
    )
