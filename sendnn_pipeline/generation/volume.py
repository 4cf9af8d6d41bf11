"""How large a rectangular decode is: its rows times the tokens of its longest, padding included."""

from collections.abc import Iterable, Sequence

from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of


def tkv_of(rows: Sequence[int]) -> int:
    """Return the tokens of the longest row of a decode, with its padding and the token that the step adds.

    Rows are padded by whole blocks to the most blocks of any, so the row that ends furthest into its last block is the
    longest, however few tokens it has.

    Args:
        rows: computed tokens of each row before the step.
    """
    return max(rows) // BLOCK_SIZE * BLOCK_SIZE + max(tokens % BLOCK_SIZE for tokens in rows) + 1


def final_volume(tkv: int, prompt_tokens: int, max_tokens: int, remaining_tokens: Iterable[int]) -> int:
    """Return the most tokens that decodes come to while a new request is among them, if all generate all they may.

    As rows of fewer remaining tokens end, fewer but longer ones go on. A block is added to each, since a row that
    crosses into its next block moves the padding of the others.

    Args:
        tkv: of the last step.
        prompt_tokens: of the new request.
        max_tokens: that it may generate.
        remaining_tokens: that each of the others may still generate.
    """
    begin = max(tkv, prompt_tokens)
    aligned = begin // BLOCK_SIZE * BLOCK_SIZE + prompt_tokens % BLOCK_SIZE
    longest = _end(aligned, max_tokens)
    ends = sorted(_end(begin, remaining) for remaining in remaining_tokens)
    rows, volume = len(ends) + 1, 0
    for end in ends:
        if longest <= end:
            break
        volume = max(volume, rows * end)
        rows -= 1
    return max(volume, rows * longest)


def _end(tokens: int, new_tokens: int) -> int:
    return (num_blocks_of(tokens + new_tokens - 1) + 1) * BLOCK_SIZE
