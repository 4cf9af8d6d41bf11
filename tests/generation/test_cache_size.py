"""How many blocks the cache has: what was asked for, or what the memory that is left takes; said before a compile."""

import re

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation import engine
from sendnn_pipeline.generation.plan import generation_plan
from tests.conftest import resolved_run
from tests.generation.decoders import KNOWN, make_decoder
from tests.served import EAGER_FLOAT32

# Two layers of two key heads of eight numbers, keys and values, in float32.
BLOCK_BYTES = 64 * 2 * 2 * 8 * 2 * 4


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    """Resolve a run where so many blocks are left beside the weights."""
    folder = make_decoder(tmp_path / "model", "Llama", KNOWN["Llama"])
    words = [*EAGER_FLOAT32, f"model.path={folder}"]
    weights = 2 * 4 * resolved_run(words).run.model.num_parameters

    def resolve(blocks_left, *more):
        monkeypatch.setattr(engine, "available_bytes", lambda: weights + blocks_left * BLOCK_BYTES)
        return generation_plan(resolved_run([*words, *more]).run).rules.num_blocks

    return resolve


def test_it_is_what_all_sequences_could_fill(resolve):
    assert resolve(10_000, "scheduler.max_num_seqs=3") == 3 * 8 + 1


def test_less_memory_is_a_smaller_cache(resolve):
    assert 9 <= resolve(20, "scheduler.max_num_seqs=64") < 20


@pytest.mark.parametrize("blocks_left", [4, 6, 9])
def test_where_no_context_fits_the_largest_that_does_is_named_and_fits(blocks_left, resolve):
    with pytest.raises(
        ConfigError, match=r"model.max_model_len=512 needs 9 blocks of cache, and there are \d"
    ) as caught:
        resolve(blocks_left)
    fits = re.search(r"the largest context that fits is (model\.max_model_len=(\d+))$", str(caught.value))
    assert fits and resolve(blocks_left, fits[1]) >= int(fits[2]) // 64 + 1
    with pytest.raises(ConfigError, match="the largest context that fits"):
        resolve(blocks_left, f"model.max_model_len={int(fits[2]) + 64}")


@pytest.mark.parametrize("blocks_left", [0, 1])
def test_where_nothing_fits_that_is_said(blocks_left, resolve):
    with pytest.raises(ConfigError, match=r"largest context that fits|blocks fit") as caught:
        resolve(blocks_left)
    assert "max_model_len=0" not in str(caught.value)


def test_more_than_there_is_names_what_there_is(resolve):
    with pytest.raises(
        ConfigError, match=r"cache.num_blocks=5000 take .* are left beside the weights.*at most 100 blocks"
    ):
        resolve(100, "cache.num_blocks=5000")


def test_fewer_than_a_context_takes_names_the_context(resolve):
    with pytest.raises(ConfigError, match=r"needs 9 blocks of cache, and there are 5.*model.max_model_len=256"):
        resolve(10_000, "cache.num_blocks=5")


def test_no_context_at_all_is_no_advice(resolve):
    with pytest.raises(ConfigError, match=r"needs 9 blocks of cache, and there are 1 .*cache.num_blocks=2") as caught:
        resolve(10_000, "cache.num_blocks=1")
    assert "max_model_len=0" not in str(caught.value)
    assert resolve(10_000, "cache.num_blocks=2", "model.max_model_len=64") == 2
