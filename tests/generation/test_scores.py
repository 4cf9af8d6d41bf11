"""Attention whose scores are written out: what torch's own gives in float32, and where it is taken."""

import pytest
import torch
import torch.nn.functional as F

from sendnn_pipeline.generation.model import scores
from sendnn_pipeline.generation.model.scores import attend_by_scores, writes_scores
from sendnn_pipeline.generation.model.steps import ChunkStep

BLOCK, SIZE = 64, 32
MIB = 2**20


def step_of(key_heads, chunks, *, by_scores):
    """Return a step of chunks, each from a position on so long, over a cache that has random numbers before them."""
    generator = torch.Generator().manual_seed(0)
    tables, positions, slots, queries = [], [], [], []
    longest = max(length for _, length in chunks)
    free = 1
    for start, length in chunks:
        table = list(range(free, free := free + -(-(start + length) // BLOCK)))
        tables.append(torch.tensor(table))
        mine = torch.arange(start, start + length)
        first = sum(map(len, positions))
        positions.append(mine)
        slots.append(tables[-1][mine // BLOCK] * BLOCK + mine % BLOCK)
        queries.append(first + torch.arange(longest).clamp(max=length - 1))
    shape = (free, key_heads)
    step = ChunkStep(
        torch.randn(*shape, SIZE, BLOCK, generator=generator),
        torch.randn(*shape, BLOCK, SIZE, generator=generator),
        torch.cat(slots),
        positions=torch.cat(positions),
        queries=torch.stack(queries),
        row_of_token=torch.arange(len(chunks)).repeat_interleave(torch.tensor([length for _, length in chunks])),
        query_of_token=torch.cat([torch.arange(length) for _, length in chunks]),
        block_tables=torch.nn.utils.rnn.pad_sequence(tables, batch_first=True),
        scores=by_scores,
    )
    # A block that no row has is read, too, where a table is shorter than others; nobody wrote it.
    step.keys[0], step.values[0] = 0.0, 0.0
    return step


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("heads", "key_heads", "scaling"), [(9, 3, None), (4, 4, 0.5), (8, 1, None)])
@pytest.mark.parametrize("chunks", [[(0, 7)], [(0, 3), (70, 9), (128, 1)]])
def test_it_is_what_torch_computes(heads, key_heads, scaling, window, chunks):
    tokens = sum(length for _, length in chunks)
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(1, heads, tokens, SIZE, generator=generator)
    key, value = torch.randn(2, 1, key_heads, tokens, SIZE, generator=generator)
    fused, written = (
        step_of(key_heads, chunks, by_scores=by_scores).attend(query, key, value, scaling, window)
        for by_scores in (False, True)
    )
    torch.testing.assert_close(written, fused, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_float32_as_rounding_allows():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 50, 6, SIZE, generator=generator)
    keys, values = torch.randn(2, 2, SIZE, 50, generator=generator), torch.randn(2, 2, 50, SIZE, generator=generator)
    seen = torch.ones(50, 50).tril().bool().expand(2, -1, -1)
    found = attend_by_scores(*(part.bfloat16() for part in (query, keys, values)), seen, None)
    mine, worth = keys.transpose(2, 3).repeat_interleave(3, 1), values.repeat_interleave(3, 1)
    wanted = F.scaled_dot_product_attention(query.transpose(1, 2), mine, worth, attn_mask=seen[:, None])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float().transpose(2, 3).flatten(1, 2), wanted, rtol=0.02, atol=0.03)


@pytest.mark.parametrize(
    ("cpu", "asked", "wanted"),
    [
        ((True, False), ("bfloat16", 128 * MIB), True),
        ((True, False), ("bfloat16", 128 * MIB + 1), False),
        ((True, True), ("bfloat16", 1), False),
        ((False, False), ("bfloat16", 1), False),
        ((True, False), ("float32", 1), False),
        ((True, False), ("float16", 1), False),
    ],
)
def test_where_it_is_taken(monkeypatch, cpu, asked, wanted):
    vectors, tiles = cpu
    monkeypatch.setattr(scores.torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(scores.torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert writes_scores(*asked) is wanted
