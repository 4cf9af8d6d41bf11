"""Chunks, padding, tkv and volumes, as numbers."""

import pytest

from sendnn_pipeline.generation.chunks import end_of_chunk, first_token_of, left_padding_of, put_together
from sendnn_pipeline.generation.pausing import choose_rows
from sendnn_pipeline.generation.request import Request
from sendnn_pipeline.generation.rules import Rules, num_blocks_of, sendnn_rules
from sendnn_pipeline.generation.steps import Chunk
from sendnn_pipeline.generation.volume import final_volume, tkv_of

LIMITS = {"max_num_seqs": 4, "max_model_len": 32768, "num_blocks": 1024}


def device(chunk_size, **more):
    return sendnn_rules(**(LIMITS | {"chunk_size": chunk_size} | more))


def chunk_ends(num_tokens, rules, start=0):
    ends = []
    while start < num_tokens:
        start = end_of_chunk(num_tokens, start, rules.max_prefill_tokens, rules)
        ends.append(start)
    return ends


@pytest.mark.parametrize(
    ("num_tokens", "chunk_size", "num_chunks", "padding", "first"),
    [
        (1, 128, 1, 64, 1),
        (51, 128, 1, 64, 51),
        (64, 128, 1, 64, 64),
        (95, 128, 1, 0, 95),
        (148, 128, 2, 64, 64),
        (192, 128, 2, 64, 64),
        (236, 128, 2, 0, 128),
        (260, 128, 3, 64, 64),
        (320, 192, 2, 64, 128),
        (640, 256, 3, 128, 128),
        (42, 512, 1, 448, 42),
        (513, 512, 2, 448, 64),
        (940, 512, 2, 64, 448),
        (11946, 512, 24, 320, 192),
    ],
)
def test_left_padded_chunks(num_tokens, chunk_size, num_chunks, padding, first):
    rules = device(chunk_size)
    ends = chunk_ends(num_tokens, rules)
    assert left_padding_of(num_tokens, rules) == padding
    assert len(ends) == num_chunks and ends[0] == first


@pytest.mark.parametrize(
    ("num_tokens", "found", "chunk_size", "used_blocks"),
    [
        (192, 0, 128, 0),
        (192, 128, 128, 1),
        (70, 64, 128, 0),
        (384, 320, 128, 4),
        (384, 192, 128, 2),
        (384, 256, 128, 4),
        (320, 64, 192, 0),
        (128, 64, 256, 0),
        (640, 512, 256, 6),
        (448, 192, 128, 3),
        (512, 448, 128, 6),
        (192, 128, 512, 0),
        (384, 320, 256, 2),
    ],
)
def test_a_left_padded_prompt_goes_on_at_a_chunk(num_tokens, found, chunk_size, used_blocks):
    assert first_token_of(num_tokens, found, device(chunk_size)) == used_blocks * 64


def test_chunks_of_a_cpu_end_with_blocks_or_the_prompt():
    rules = Rules(**LIMITS, chunk_size=256, max_prefill_tokens=300)
    assert chunk_ends(700, rules) == [256, 512, 700] and chunk_ends(700, rules, start=64) == [320, 576, 700]
    assert left_padding_of(700, rules) == 0 and first_token_of(700, 640, rules) == 640
    assert end_of_chunk(700, 0, 100, rules) == 64 and end_of_chunk(700, 0, 63, rules) == 0
    assert end_of_chunk(40, 0, 44, rules) == 40


def chunk(start, size):
    blocks = num_blocks_of(start + size)
    return Chunk(
        request_id=0,
        start=start,
        end=start + size,
        token_ids=(5,) * size,
        left_padding=0,
        block_table=(1,) * blocks,
        slot_blocks=(1,) * num_blocks_of(size),
        is_last=True,
    )


@pytest.mark.parametrize(
    ("sizes", "together"),
    [
        ([500], [[500]]),
        # Padding 20 to 60 queries of one block costs little, and to 500 of eight much.
        ([60, 500, 20], [[20, 60], [500]]),
        ([500, 510], [[500, 510]]),
        ([64] * 40, [[64] * 40]),
        ([16, 30, 100, 120, 300, 400, 512], [[16, 30, 100, 120], [300], [400], [512]]),
    ],
)
def test_chunks_of_like_length_are_computed_together(sizes, together):
    found = put_together([chunk(0, size) for size in sizes])
    assert [[len(one.token_ids) for one in group] for group in found] == together


def test_a_chunk_behind_a_long_prefix_is_computed_apart():
    late, early = chunk(8128, 20), chunk(0, 20)
    assert put_together([late, early, early]) == [[early, early], [late]]
    assert put_together([late, late]) == [[late, late]]


@pytest.mark.parametrize(
    ("rows", "tkv"),
    [
        ([60], 61),
        ([62, 63], 64),
        ([63, 64], 128),
        ([64, 65], 66),
        ([17, 66], 82),
        ([10, 512], 523),
        ([127, 15, 15], 128),
        ([125, 61], 126),
    ],
)
def test_tkv_of_rows(rows, tkv):
    assert tkv_of(rows) == tkv == padded_tkv(rows)


def padded_tkv(rows):
    """The same, row by row."""
    blocks = [num_blocks_of(tokens + 1) for tokens in rows]
    return max((max(blocks) - own) * 64 + tokens + 1 for own, tokens in zip(blocks, rows, strict=True))


def test_final_volume():
    # Alone it needs its own length and a block more.
    assert final_volume(0, 100, 20, []) == 192
    # Two rows until the shorter has ended, whichever it is, then one that is longer.
    assert final_volume(100, 10, 20, [500]) == 2 * 192
    assert final_volume(100, 10, 900, [20]) == 1 * 1088
    assert final_volume(64, 64, 64, [64, 64]) == 3 * 192
    # It begins at the block of the longest, with its own offset.
    assert final_volume(640, 63, 1, []) == 768 and final_volume(640, 63, 2, []) == 768
    assert final_volume(640, 63, 3, []) == 832


def decoding(request_id, num_generated, prompt=10, paused_steps=0):
    request = Request(
        request_id=request_id,
        token_ids=[1] * (prompt + num_generated),
        num_prompt_tokens=prompt,
        max_tokens=99,
        chain=[],
    )
    request.computed_tokens = prompt + num_generated - 1
    request.paused_steps = paused_steps
    return request


def chosen(paused, running, **rules):
    rows, refused = choose_rows(paused, running, device(64, **rules))
    return [row.request_id for row in rows], [row.request_id for row in refused]


def test_who_is_paused():
    rows = [decoding(0, 9), decoding(1, 3), decoding(2, 6)]
    assert chosen([], rows) == ([0, 1, 2], [])
    assert chosen([], rows, max_batch_tkv=57) == ([0, 1, 2], [])
    assert chosen([], rows, max_batch_tkv=56) == ([1, 2], [0])
    assert chosen([], rows, max_batch_tkv=56, long_output_priority=True) == ([0, 2], [1])
    waits = decoding(3, 30, paused_steps=2)
    assert chosen([waits], rows, max_batch_tkv=100) == ([3, 1], [2, 0])
    assert chosen([waits], rows, max_batch_tkv=1000) == ([3, 1, 2, 0], [])
    # One always runs, and a smaller one may fit where a larger does not.
    assert chosen([], rows, max_batch_tkv=1) == ([1], [2, 0])
    assert chosen(
        [], [decoding(0, 1, prompt=60), decoding(1, 2, prompt=300), decoding(2, 3, prompt=60)], max_batch_tkv=150
    ) == (
        [0, 2],
        [1],
    )


def test_what_can_never_run():
    rules = Rules(max_num_seqs=2, max_model_len=128, num_blocks=3, chunk_size=64, max_prefill_tokens=64)
    assert rules.why_never(64, 64) == "" and rules.why_never(0, 1) and rules.why_never(1, 0)
    assert "129, more than max_model_len=128" in rules.why_never(65, 64)
    small = Rules(max_num_seqs=2, max_model_len=128, num_blocks=2, chunk_size=64, max_prefill_tokens=64)
    assert small.why_never(32, 33) == "65 tokens need 2 blocks, and num_blocks=2 leaves 1"


def test_longest_answers():
    padded = device(64, max_model_len=128)
    assert [padded.max_output_tokens(tokens) for tokens in (64, 65, 60)] == [64, 0, 64]
    assert Rules(**(LIMITS | {"max_model_len": 128}), chunk_size=64, max_prefill_tokens=64).max_output_tokens(65) == 63
