"""Which tokens of a prompt a chunk has, and where they go. Decides only."""

from collections.abc import Sequence

from sendnn_pipeline.generation.request import Request
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules, num_blocks_of
from sendnn_pipeline.generation.steps import Chunk

WORTH_A_CALL = 2**16
"""Pairs of a query and a token that attention may compute for nothing to save reading all weights once more."""


def left_padding_of(num_prompt_tokens: int, rules: Rules) -> int:
    """Return the tokens of padding, whole blocks, before a prompt."""
    if not rules.left_padding:
        return 0
    padded = num_blocks_of(num_prompt_tokens) * BLOCK_SIZE
    return -padded % rules.chunk_size


def first_token_of(num_prompt_tokens: int, num_found_tokens: int, rules: Rules) -> int:
    """Return where computing begins, if the first ``num_found_tokens`` are in the cache.

    With left padding it is the beginning of a chunk: what is cached of that chunk is computed again.
    """
    if not rules.left_padding:
        return num_found_tokens
    padding = left_padding_of(num_prompt_tokens, rules)
    return max(0, (padding + num_found_tokens) // rules.chunk_size * rules.chunk_size - padding)


def end_of_chunk(num_prompt_tokens: int, start: int, num_rows: int, rules: Rules) -> int:
    """Return the position behind the chunk that begins at ``start``; ``start`` where none may begin.

    Without left padding a chunk ends with the prompt or with a block, so that each begins with one.

    Args:
        num_prompt_tokens: of the request.
        start: the first token that is not computed.
        num_rows: that the step may still compute.
        rules: of the scheduler.
    """
    if rules.left_padding:
        padding = left_padding_of(num_prompt_tokens, rules)
        end = (padding + start) // rules.chunk_size * rules.chunk_size + rules.chunk_size - padding
        return min(num_prompt_tokens, end) if num_rows >= rules.chunk_size else start
    most = min(rules.chunk_size, num_rows)
    if num_prompt_tokens - start <= most:
        return num_prompt_tokens
    return start + most // BLOCK_SIZE * BLOCK_SIZE


def rows_of_chunk(start: int, end: int, rules: Rules) -> int:
    """Return how much of a step's budget a chunk takes: its tokens, and where all chunks have one size, that size."""
    return rules.chunk_size if rules.left_padding else end - start


def allocated_tokens(request: Request, end: int) -> int:
    """Return for how many tokens a request has blocks once the chunk up to ``end`` has run.

    Each step takes as many blocks as a chunk has. A first chunk that begins with shared blocks needs fewer, and takes
    the rest in advance.
    """
    again = request.num_shared_blocks * BLOCK_SIZE - request.cached_tokens
    return min(request.num_prompt_tokens, end + again)


def chunk_of(request: Request, end: int, rules: Rules) -> Chunk:
    """Return the chunk from the request's first token that is not computed to ``end``; its blocks are taken."""
    start = request.computed_tokens
    padding_blocks = request.left_padding // BLOCK_SIZE
    table = (0,) * padding_blocks + request.block_table
    is_last = end == request.num_prompt_tokens
    size = num_blocks_of(end - start)
    length = padding_blocks + num_blocks_of(end)
    if rules.left_padding:
        size = rules.chunk_size // BLOCK_SIZE
        length = ((request.left_padding + start) // rules.chunk_size + 1) * size
    first = length - size
    own = padding_blocks + request.num_shared_blocks
    return Chunk(
        request_id=request.request_id,
        start=start,
        end=end,
        token_ids=tuple(request.token_ids[start:end]),
        left_padding=request.left_padding,
        block_table=table[:length],
        slot_blocks=tuple(table[index] if index >= own else 0 for index in range(first, length)),
        is_last=is_last,
    )


def put_together(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Return which chunks to compute in one call, where each takes as much of attention as the largest.

    Args:
        chunks: of different prompts.
    """
    groups: list[list[Chunk]] = []
    for chunk in sorted(chunks, key=lambda chunk: (len(chunk.block_table), len(chunk.token_ids))):
        joined = [*groups[-1], chunk] if groups else []
        if joined and _pairs(joined) - _pairs(groups[-1]) - _pairs([chunk]) <= WORTH_A_CALL:
            groups[-1] = joined
        else:
            groups.append([chunk])
    return groups


def _pairs(chunks: Sequence[Chunk]) -> int:
    queries, blocks = max(len(chunk.token_ids) for chunk in chunks), max(len(chunk.block_table) for chunk in chunks)
    return len(chunks) * queries * blocks * BLOCK_SIZE
