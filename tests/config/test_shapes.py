"""Shapes as one value."""

import pytest

from sendnn_pipeline.config.shapes import Shape, parse_shapes, zip_shapes
from sendnn_pipeline.errors import ConfigError


def test_parse():
    assert parse_shapes(["128x4", "64x8"]) == (Shape(64, 8), Shape(128, 4))
    assert parse_shapes("64x8") == (Shape(64, 8),)
    assert parse_shapes("auto") is None


@pytest.mark.parametrize("value", [[], ["64"], ["64x0"], ["0x8"], ["-64x8"], ["64x8", "64x8"], 3, {"a": 1}, ["64x8x2"]])
def test_refused(value):
    with pytest.raises(ConfigError) as caught:
        parse_shapes(value, "the test")
    assert "warmup" in str(caught.value) and "the test" in str(caught.value)


def test_zip_and_broadcast():
    assert zip_shapes([64, 128], [8, 4]) == (Shape(64, 8), Shape(128, 4))
    assert zip_shapes([64, 128], [8]) == (Shape(64, 8), Shape(128, 8))
    assert zip_shapes([64], [1, 8]) == (Shape(64, 1), Shape(64, 8))


@pytest.mark.parametrize(("lens", "sizes"), [([64, 128], [1, 2, 3]), ([0], [1]), ([64], [-1]), ([], [1])])
def test_zip_refuses(lens, sizes):
    with pytest.raises(ConfigError):
        zip_shapes(lens, sizes)


@pytest.mark.parametrize(
    ("word", "shape"),
    [("8..256x1..32", Shape(256, 32, 8, 1)), ("64x1..8", Shape(64, 8, None, 1)), ("8..64x4", Shape(64, 4, 8, None))],
)
def test_ranges(word, shape):
    assert parse_shapes([word]) == (shape,) and str(shape) == word


@pytest.mark.parametrize("word", ["8..8x1", "9..8x1", "0..8x1", "8..x1", "..8x1", "8...9x1", "8x4..2"])
def test_ranges_that_are_none(word):
    with pytest.raises(ConfigError):
        parse_shapes([word])
