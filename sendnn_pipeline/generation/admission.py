"""Whether a prompt may be computed now, or the name of what stands against it. Decides only."""

from collections.abc import Iterable
from itertools import takewhile

from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Request, Stage
from sendnn_pipeline.generation.rules import num_blocks_of
from sendnn_pipeline.generation.state import State
from sendnn_pipeline.generation.volume import final_volume


def refuse_prefill(state: State) -> Refusal | None:
    """Return why no prompt at all may be computed now."""
    if state.paused and state.num_running:
        return Refusal.PAUSED
    if state.rules.interleave and state.last_was_prefill and state.decoding:
        return Refusal.INTERLEAVE
    return None


def refuse_slot(state: State) -> Refusal | None:
    """Return why no request may be admitted, whatever it is."""
    return Refusal.SEQUENCE_SLOTS if state.num_admitted >= state.rules.max_num_seqs else None


def refuse_volume(state: State, request: Request, *, is_last: bool) -> Refusal | None:
    """Return why a request may not come to join those that decode.

    Without pausing, a limit that is exceeded later could not be helped any more. The check is made before the chunk
    after which the request decodes; without interleaving before its first, as the others follow at once.

    Args:
        state: of the scheduler.
        request: that is about to have a chunk computed.
        is_last: whether its prompt ends with that chunk.
    """
    rules = state.rules
    is_checked = is_last if rules.interleave else request.stage is Stage.WAITING
    if rules.max_batch_tkv is None or rules.pausing or not is_checked:
        return None
    # Of those whose prompts are under way, the earlier ones: a later one is checked against this.
    earlier = takewhile(lambda other: other is not request, state.prefilling.values())
    others = [*state.decoding.values(), *earlier]
    if not others:
        # Alone it runs as it would on an idle machine; else, it never would.
        return None
    # Decode steps that each may still make; of prompts under way, all.
    remaining = [other.max_tokens - max(0, other.computed_tokens - other.num_prompt_tokens) for other in others]
    volume = final_volume(state.tkv, request.num_prompt_tokens, request.max_tokens, remaining)
    return Refusal.VOLUME if volume > rules.max_batch_tkv else None


def num_blocks_needed(state: State, request: Request, found: Iterable[int]) -> int:
    """Return how many of the available blocks a request may take until its end, if it shares those ``found``.

    Blocks that others hold cost nothing; one that is found but free is taken from the free ones like any other.
    """
    live = sum(1 for block in found if state.pool.num_holders(block))
    return num_blocks_of(request.max_total_tokens) - live
