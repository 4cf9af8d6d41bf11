"""Shapes as one value."""

from itertools import pairwise

import pytest

from sendnn_pipeline.config.shapes import Shape, auto_shapes, parse_shapes, zip_shapes
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


@pytest.mark.parametrize("longest", [1, 7, 31, 32, 33, 64, 128, 200, 256, 512, 8192])
def test_auto_covers_every_length_within_double(longest):
    shapes = auto_shapes(longest, "inductor")
    assert max(shape.prompt_len for shape in shapes) == longest
    lengths = sorted({shape.prompt_len for shape in shapes})
    assert lengths[0] <= 32
    for shorter, longer in pairwise(lengths):
        assert longer <= 2 * shorter
    assert len(shapes) <= 2 * len(lengths)


def test_auto_keeps_the_registry_default_on_sendnn():
    assert auto_shapes(512, "sendnn") == (Shape(64, 1),)
