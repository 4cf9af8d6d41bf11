"""Shapes as one value, in each form in which users write them."""

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.pooling.shapes import parse_shapes, pool_program, shape_of, zip_shapes


def test_parse():
    assert parse_shapes(["128x4", "64x8"]) == (pool_program(64, 8), pool_program(128, 4))
    assert parse_shapes("64x8") == (pool_program(64, 8),)
    assert parse_shapes("64x8, 16x2") == (pool_program(16, 2), pool_program(64, 8))
    assert parse_shapes("auto") is None


@pytest.mark.parametrize("value", [[], ["64"], ["64x0"], ["0x8"], ["-64x8"], ["64x8", "64x8"], 3, {"a": 1}, ["64x8x2"]])
def test_refused(value):
    with pytest.raises(ConfigError) as caught:
        parse_shapes(value, "the test")
    assert "warmup" in str(caught.value) and "the test" in str(caught.value)


def test_zip_and_broadcast():
    assert zip_shapes([64, 128], [8, 4]) == (pool_program(64, 8), pool_program(128, 4))
    assert zip_shapes([64, 128], [8]) == (pool_program(64, 8), pool_program(128, 8))
    assert zip_shapes([64], [1, 8]) == (pool_program(64, 1), pool_program(64, 8))


@pytest.mark.parametrize(("lens", "sizes"), [([64, 128], [1, 2, 3]), ([0], [1]), ([64], [-1]), ([], [1])])
def test_zip_refuses(lens, sizes):
    with pytest.raises(ConfigError):
        zip_shapes(lens, sizes)


@pytest.mark.parametrize(
    ("word", "program", "name"),
    [
        ("8..256x1..32", pool_program(256, 32, 8, 1), "pool[batch=1..32,len=8..256]"),
        ("64x1..8", pool_program(64, 8, None, 1), "pool[batch=1..8,len=64]"),
        ("8..64x4", pool_program(64, 4, 8, None), "pool[batch=4,len=8..64]"),
        ("64x4", pool_program(64, 4), "pool[batch=4,len=64]"),
    ],
)
def test_ranges(word, program, name):
    assert parse_shapes([word]) == (program,) and shape_of(program) == word and program.name == name


@pytest.mark.parametrize("word", ["8..8x1", "9..8x1", "0..8x1", "8..x1", "..8x1", "8...9x1", "8x4..2"])
def test_ranges_that_are_none(word):
    with pytest.raises(ConfigError):
        parse_shapes([word])
