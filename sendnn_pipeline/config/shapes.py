"""Warmup shapes as one value: length x batch, written ``64x8``, or ``8..256x1..32`` where ranges are compiled."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.errors import ConfigError

AUTO = "auto"


def bounds(most: int, least: int | None) -> str:
    """Write a dimension: ``8``, or ``1..8`` where anything between is taken."""
    return str(most) if least is None else f"{least}..{most}"


@dataclass(frozen=True)
class Shape:
    """A batch of ``batch_size`` inputs, each padded to ``prompt_len`` tokens.

    With a least value, the dimension is a range and the number beside it is its upper end.
    """

    prompt_len: int
    batch_size: int
    least_len: int | None = None
    least_batch: int | None = None

    def __str__(self) -> str:
        return f"{bounds(self.prompt_len, self.least_len)}x{bounds(self.batch_size, self.least_batch)}"

    def order(self) -> tuple[int, int, str]:
        """Sort by length, then by batch."""
        return self.prompt_len, self.batch_size, str(self)

    @property
    def is_range(self) -> bool:
        """Whether some dimension is a range."""
        return self.least_len is not None or self.least_batch is not None


def parse_shapes(value: Any, where: str = "") -> tuple[Shape, ...] | None:
    """Read ``warmup.shapes``; None stands for ``auto``.

    Raises:
        ConfigError: the value is no list of positive ``LENGTHxBATCH``, or one stands in it twice.
    """
    if value == AUTO:
        return None
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise ConfigError(
            f"warmup.shapes={value!r} is no list of shapes", where=where, hint="write auto or [64x8,128x4]"
        )
    return _unique([_parse_shape(str(word), where) for word in words], where)


def _parse_shape(word: str, where: str) -> Shape:
    match = re.fullmatch(r"(?:(\d+)\.\.)?(\d+)x(?:(\d+)\.\.)?(\d+)", word)
    numbers = [None if group is None else int(group) for group in match.groups()] if match else []
    if not match or 0 in numbers:
        raise ConfigError(
            f"warmup.shapes has {word!r}, which is no shape",
            where=where,
            hint="write LENGTHxBATCH, both 1 or more, such as 64x8; a range is written 8..256x1..32",
        )
    least_len, longest, least_batch, largest = numbers
    assert longest is not None and largest is not None
    for least, most in ((least_len, longest), (least_batch, largest)):
        if least is not None and least >= most:
            raise ConfigError(f"warmup.shapes has {word!r}, and {least}..{most} is no range", where=where)
    return Shape(longest, largest, least_len, least_batch)


def zip_shapes(prompt_lens: Sequence[int], batch_sizes: Sequence[int], where: str = "") -> tuple[Shape, ...]:
    """Pair lengths with batch sizes; a single one goes with all of the others.

    Raises:
        ConfigError: the lists differ in length, or a number is not positive.
    """
    for key, numbers in (("warmup.prompt_lens", prompt_lens), ("warmup.batch_sizes", batch_sizes)):
        if not numbers or min(numbers) < 1:
            raise ConfigError(f"{key}={list(numbers)} must hold numbers of 1 or more", where=where)
    if 1 not in (len(prompt_lens), len(batch_sizes)) and len(prompt_lens) != len(batch_sizes):
        raise ConfigError(
            f"warmup.prompt_lens has {len(prompt_lens)} values and warmup.batch_sizes has {len(batch_sizes)}",
            where=where,
            hint="give both the same number of values, or one of them a single value",
        )
    count = max(len(prompt_lens), len(batch_sizes))
    lens = list(prompt_lens) * (count if len(prompt_lens) == 1 else 1)
    sizes = list(batch_sizes) * (count if len(batch_sizes) == 1 else 1)
    return _unique([Shape(length, size) for length, size in zip(lens, sizes, strict=True)], where)


def _unique(shapes: list[Shape], where: str) -> tuple[Shape, ...]:
    twice = next((shape for shape in shapes if shapes.count(shape) > 1), None)
    if twice is not None:
        raise ConfigError(f"shape {twice} stands twice in warmup", where=where, hint="name it once")
    return tuple(sorted(shapes, key=Shape.order))
