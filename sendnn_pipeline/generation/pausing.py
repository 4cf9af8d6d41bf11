"""Which requests decode in a step whose volume is limited, and which are paused. Decides only."""

from collections.abc import Iterable

from sendnn_pipeline.generation.request import Request
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules
from sendnn_pipeline.generation.volume import tkv_of


def choose_rows(
    paused: Iterable[Request], decoding: Iterable[Request], rules: Rules
) -> tuple[list[Request], list[Request]]:
    """Return who decodes and who does not, each in the order of preference.

    Those paused longest come first, then those with the fewest generated tokens; with ``long_output_priority``, those
    with the most. A request that does not fit lets others go before it, but for one step: then it has waited longer.
    The first is always chosen, so that each step brings someone nearer to the end.
    """
    limit = rules.max_batch_tkv
    waiting, running = list(paused), list(decoding)
    everyone = waiting + running
    fits = limit is None or not everyone or _tokens(everyone) <= limit
    if fits and not waiting:
        return running, []
    sign = -1 if rules.long_output_priority else 1
    everyone.sort(key=lambda request: (-request.paused_steps, sign * request.num_generated))
    if fits or limit is None:
        return everyone, []
    chosen: list[Request] = []
    refused: list[Request] = []
    full = offset = 0
    for request in everyone:
        # What tkv_of gives, brought forward by a row.
        longer = max(full, request.computed_tokens // BLOCK_SIZE)
        further = max(offset, request.computed_tokens % BLOCK_SIZE)
        if chosen and (len(chosen) + 1) * (longer * BLOCK_SIZE + further + 1) > limit:
            refused.append(request)
        else:
            chosen.append(request)
            full, offset = longer, further
    return chosen, refused


def _tokens(requests: list[Request]) -> int:
    return len(requests) * tkv_of([request.computed_tokens for request in requests])
