"""The cache's memory: there before it is wanted, and never written under a request that has it."""

import psutil
import torch

from sendnn_pipeline.generation.blocks import BlockPool
from sendnn_pipeline.generation.kv_cache import FreshBlocks, make_caches
from tests.conftest import resolved_run

LAYERS, BLOCKS, AHEAD = 3, 40, 12


def test_blocks_that_are_taken_meanwhile_stay_as_they_are():
    caches = [(torch.full((BLOCKS, 2), torch.nan), torch.full((BLOCKS, 3), torch.nan)) for _ in range(LAYERS)]
    num_bytes = sum(tensor.nbytes for layer in caches for tensor in layer)
    fresh, pool = FreshBlocks(caches, ahead_bytes=num_bytes * AHEAD // BLOCKS), BlockPool(BLOCKS)
    pool.reserve(BLOCKS - 1)
    beats = []
    while pool.num_used < pool.num_usable:
        # After the first beat of a round, and after its last.
        for number in (2, 1, 2 * LAYERS * BLOCKS):
            beats.append([fresh.write(pool.first_unused) for _ in range(number)].count(True))
            for block in pool.take(min(2, pool.num_reserved)):
                for tensor in (tensor for layer in caches for tensor in layer):
                    tensor[block] = block
    assert set(beats) > {0, 1, 2} and max(beats) < 2 * LAYERS
    for tensor in (tensor for layer in caches for tensor in layer):
        assert torch.equal(tensor[1:], torch.arange(1, BLOCKS)[:, None].expand(-1, tensor.shape[1]).float())


def test_what_is_written_ahead_is_bounded_and_no_more_than_the_cache_has():
    caches = make_caches(
        resolved_run(["model=smollm2", "backend=eager", "model.dtype=float32", "cache.num_blocks=200"]).run
    )
    num_bytes = sum(tensor.nbytes for layer in caches for tensor in layer)
    process, ahead = psutil.Process(), num_bytes // 4
    before, fresh = process.memory_info().rss, FreshBlocks(caches, ahead_bytes=ahead)
    while fresh.write(1):
        pass
    # Large pages may reach beyond it.
    assert ahead <= process.memory_info().rss - before < 2 * ahead
    assert not any(fresh.write(first) for first in (1, 10, 22))
    while any(fresh.write(first) for first in (50, 100, 150, 199, 200)):
        pass
    assert process.memory_info().rss - before < num_bytes * 1.1
    assert not any(bool(tensor.any()) for layer in caches for tensor in layer)
