"""Which requests get one token more in the next step. Decides, and takes the blocks that it decides on."""

from collections import OrderedDict
from collections.abc import Sequence
from operator import add

from sendnn_pipeline.generation.pausing import choose_rows
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Request, Stage
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules
from sendnn_pipeline.generation.state import State
from sendnn_pipeline.generation.steps import DecodeStep


def next_decode(state: State) -> DecodeStep | None:
    """Return the next step of decode, having paused and resumed; None where no request decodes."""
    if not state.decoding and not state.paused:
        return None
    chosen, refused = choose_rows(state.paused.values(), state.decoding.values(), state.rules)
    if refused or state.paused:
        _pause(state, chosen, refused)
    rows = list(state.decoding.values())
    for request in rows:
        if not request.computed_tokens % BLOCK_SIZE:
            state.grow(request, request.computed_tokens + 1)
    return rows_step(rows, state.rules)


def _pause(state: State, chosen: Sequence[Request], refused: Sequence[Request]) -> None:
    """Resume those chosen that were paused, pause those refused that were not, and count both."""
    counts, before = state.counts, len(state.paused)
    for request in chosen:
        if request.stage is Stage.PAUSED:
            state.move(request, Stage.DECODING)
            counts.resumes += 1
            request.refusal = None
        request.paused_steps = 0
    for request in refused:
        if request.stage is Stage.DECODING:
            state.move(request, Stage.PAUSED)
            request.num_pauses += 1
            counts.pauses += 1
        request.paused_steps += 1
        state.refuse(request, Refusal.VOLUME)
    state.paused = OrderedDict((request.request_id, request) for request in refused)
    counts.net_pauses += max(0, len(refused) - before)
    counts.net_resumes += max(0, before - len(refused))


def rows_step(requests: Sequence[Request], rules: Rules) -> DecodeStep:
    """Return the step that gives each of ``requests`` one token more, in their order; their blocks are taken."""
    positions = [request.computed_tokens for request in requests]
    tables = [request.block_table for request in requests]
    slots = [table[-1] * BLOCK_SIZE + at % BLOCK_SIZE for table, at in zip(tables, positions, strict=True)]
    padding = [0] * len(requests)
    if rules.rectangular_decode:
        length = max(map(len, tables))
        padding = [(length - len(table)) * BLOCK_SIZE for table in tables]
        tables = [_padded(request, length) for request in requests]
    return DecodeStep(
        request_ids=tuple([request.request_id for request in requests]),
        token_ids=tuple([request.token_ids[-1] for request in requests]),
        positions=tuple(positions),
        slots=tuple(slots),
        block_tables=tuple(tables),
        left_padding=tuple(padding),
        tkv=max(map(add, padding, positions)) + 1,
    )


def _padded(request: Request, length: int) -> tuple[int, ...]:
    """Return a table with block 0 before it; made anew only when it or the longest has grown."""
    if len(request.padded_table) != length:
        request.padded_table = (0,) * (length - len(request.block_table)) + request.block_table
    return request.padded_table
