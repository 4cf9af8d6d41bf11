"""Warmup shapes as one value: length x batch, written ``64x8``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True, order=True)
class Shape:
    """A batch of ``batch_size`` inputs, each padded to ``prompt_len`` tokens."""

    prompt_len: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.prompt_len}x{self.batch_size}"


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
    shapes = []
    for word in words:
        match = re.fullmatch(r"(\d+)x(\d+)", str(word))
        if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
            raise ConfigError(
                f"warmup.shapes has {word!r}, which is no shape",
                where=where,
                hint="write LENGTHxBATCH, both 1 or more, such as 64x8",
            )
        shapes.append(Shape(int(match[1]), int(match[2])))
    return _unique(shapes, where)


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


def auto_shapes(max_model_len: int, backend: str) -> tuple[Shape, ...]:
    """Choose shapes that cover every length up to ``max_model_len``.

    Lengths double, so that no input is padded by more than its own length past the shortest shape; batches
    hold about 1,024 tokens, where throughput has levelled off, and two single-input shapes keep latency low. On sendnn
    the registry's 64x1 is kept.
    """
    if backend == "sendnn":
        return (Shape(64, 1),)
    lengths = [max_model_len]
    while lengths[-1] > 32:
        lengths.append((lengths[-1] + 15) // 16 * 8)
    throughput = {Shape(length, max(1, 1024 // length)) for length in lengths}
    latency = {Shape(lengths[-1], 1), Shape(max_model_len, 1)}
    return tuple(sorted(throughput | latency))


def _unique(shapes: list[Shape], where: str) -> tuple[Shape, ...]:
    twice = next((shape for shape in shapes if shapes.count(shape) > 1), None)
    if twice is not None:
        raise ConfigError(f"shape {twice} stands twice in warmup", where=where, hint="name it once")
    return tuple(sorted(shapes))
