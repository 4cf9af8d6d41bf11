"""Which chunks of which prompts the next step computes. Decides, and takes the blocks that it decides on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from sendnn_pipeline.generation.admission import num_blocks_needed, refuse_prefill, refuse_slot, refuse_volume
from sendnn_pipeline.generation.chunks import (
    allocated_tokens,
    chunk_of,
    end_of_chunk,
    first_token_of,
    left_padding_of,
    rows_of_chunk,
)
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Request, Stage
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.generation.state import State
from sendnn_pipeline.generation.steps import PrefillStep

MAX_OVERTAKES = 64
"""Requests that may be admitted before one whose volume is too large; from then on, all wait for it."""
MAX_PASSED = 64
"""Requests of too large a volume that one step looks past."""


@dataclass
class Budget:
    """What a prefill step may still compute, and the ends of the chunks that are in it."""

    num_rows: int
    ends: list[tuple[Request, int]] = field(default_factory=list)


def next_prefill(state: State) -> PrefillStep | None:
    """Return the next step of prefill; None where there is nothing to prefill, or something else comes first."""
    if not state.prefilling and not state.waiting:
        return None
    budget = Budget(state.rules.max_prefill_tokens)
    reason = refuse_prefill(state)
    for request in state.prefilling.values():
        refusal = reason or _continue(state, budget, request, request.computed_tokens)
        if refusal is not None:
            state.refuse(request, refusal)
        if refusal is Refusal.VOLUME:
            # Nobody may take what it waits for.
            reason = Refusal.ORDER
    _admit(state, budget, reason)
    if not budget.ends:
        return None
    for request, end in budget.ends:
        state.grow(request, allocated_tokens(request, end))
        request.refusal = None
    chunks = tuple(chunk_of(request, end, state.rules) for request, end in budget.ends)
    return PrefillStep(chunks, max(request.num_prompt_tokens for request, _ in budget.ends))


def _continue(state: State, budget: Budget, request: Request, start: int) -> Refusal | None:
    """Put the chunk that begins at ``start`` into the step, or return why not."""
    end = end_of_chunk(request.num_prompt_tokens, start, budget.num_rows, state.rules)
    if end == start:
        return Refusal.PREFILL
    refusal = refuse_volume(state, request, is_last=end == request.num_prompt_tokens)
    if refusal is None:
        budget.ends.append((request, end))
        budget.num_rows -= rows_of_chunk(start, end, state.rules)
    return refusal


def _admit(state: State, budget: Budget, reason: Refusal | None) -> None:
    """Admit those that wait, in order, up to the first that is refused; ``reason`` stands against all of them.

    Who is refused for its own volume lets smaller ones go before it, but not for ever. Who is not ready is no obstacle.
    """
    reason = reason or refuse_slot(state)
    window = state.rules.max_num_seqs + MAX_PASSED if reason is None else 1
    passed: list[Request] = []
    for request in list(islice(_ready(state), window)):
        refusal = reason or refuse_slot(state) or _begin(state, budget, request)
        if refusal is None:
            for other in passed:
                other.num_overtakes += 1
            continue
        state.refuse(request, refusal)
        if refusal is not Refusal.VOLUME or request.num_overtakes >= MAX_OVERTAKES or len(passed) == MAX_PASSED:
            return
        passed.append(request)


def _ready(state: State) -> Iterator[Request]:
    for request in state.waiting.values():
        if request.is_ready:
            yield request
        else:
            state.refuse(request, Refusal.NOT_READY)


def _begin(state: State, budget: Budget, request: Request) -> Refusal | None:
    """Admit a request with its first chunk and the promise of all blocks that it may need, or return why not."""
    pool, rules = state.pool, state.rules
    if budget.num_rows <= 0:
        return Refusal.PREFILL
    if request.seen_version == pool.version:
        return Refusal.BLOCKS
    found = pool.find(request.prefix_chain)
    blocks = [block for block, _ in found]
    needed = num_blocks_needed(state, request, blocks)
    if needed > pool.num_available:
        request.seen_version = pool.version
        return Refusal.BLOCKS
    start = first_token_of(request.num_prompt_tokens, len(blocks) * BLOCK_SIZE, rules)
    refusal = _continue(state, budget, request, start)
    if refusal is not None:
        return refusal
    pool.reserve(needed)
    request.num_reserved_blocks = needed - pool.share(blocks)
    request.blocks = blocks
    request.num_shared_blocks = len(blocks)
    # The same objects as the cache's, so that comparing what follows begins where they end.
    request.chain[1 : 1 + len(found)] = [content for _, content in found]
    request.computed_tokens = request.cached_tokens = start
    request.left_padding = left_padding_of(request.num_prompt_tokens, rules)
    state.move(request, Stage.PREFILLING)
    state.counts.prompt_tokens += request.num_prompt_tokens
    state.counts.cached_tokens += start
    return None
