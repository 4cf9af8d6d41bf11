"""Warmup shapes as users write them, ``64x8`` (length x batch) or ``8..256x1..32``, and the Programs they stand for."""

import re
from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.programs.program import Dim, Program

AUTO = "auto"
FUNCTION, BATCH, LENGTH = "pool", "batch", "len"
# More than any model or memory takes, and still a number that every library can count.
MAX_SIZE = 2**31 - 1


def pool_program(length: int, batch: int, min_length: int | None = None, min_batch: int | None = None) -> Program:
    """Return the Program of a batch of inputs, each padded to ``length`` tokens; with minima, of any size between."""
    return Program(FUNCTION, (Dim(BATCH, batch, min_batch), Dim(LENGTH, length, min_length)))


def shape_of(program: Program) -> str:
    """Write a Program as a shape."""
    batch, length = (str(dim).partition("=")[2] for dim in program.dims)
    return f"{length}x{batch}"


def shape_order(program: Program) -> tuple[int, int, str]:
    """Sort by length, then by batch."""
    batch, length = program.max_sizes
    return length, batch, program.name


def parse_shapes(value: Any, where: str = "") -> tuple[Program, ...] | None:
    """Read ``warmup.shapes``, shortest first; None stands for ``auto``.

    Raises:
        ConfigError: the value is not a list of positive ``LENGTHxBATCH``, or one is in it twice.
    """
    if value == AUTO:
        return None
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise ConfigError(
            f"warmup.shapes={value!r} is not a list of shapes", where=where, hint="write auto or [64x8,128x4]"
        )
    return _unique([_parse_shape(str(word).strip(), where) for word in words], where)


def _parse_shape(word: str, where: str) -> Program:
    match = re.fullmatch(r"(?:(\d+)\.\.)?(\d+)x(?:(\d+)\.\.)?(\d+)", word)
    numbers = [None if group is None else int(group) for group in match.groups()] if match else []
    if not match or 0 in numbers:
        raise ConfigError(
            f"warmup.shapes has {word!r}, which is not a shape",
            where=where,
            hint="write LENGTHxBATCH, both 1 or more, such as 64x8; a range is written 8..256x1..32",
        )
    if max(number or 0 for number in numbers) > MAX_SIZE:
        raise ConfigError(f"warmup.shapes has {word[:80]!r}, and sizes are at most {MAX_SIZE}", where=where)
    min_length, length, min_batch, batch = numbers
    assert length is not None and batch is not None
    for low, high in ((min_length, length), (min_batch, batch)):
        if low is not None and low >= high:
            raise ConfigError(f"warmup.shapes has {word!r}, and {low}..{high} is not a range", where=where)
    return pool_program(length, batch, min_length, min_batch)


def zip_shapes(prompt_lens: Sequence[int], batch_sizes: Sequence[int], where: str = "") -> tuple[Program, ...]:
    """Pair lengths with batch sizes; a single one goes with all of the others.

    Raises:
        ConfigError: the lists differ in length, or a number is not positive.
    """
    for key, numbers in (("warmup.prompt_lens", prompt_lens), ("warmup.batch_sizes", batch_sizes)):
        if not numbers or min(numbers) < 1 or max(numbers) > MAX_SIZE:
            raise ConfigError(f"{key}={list(numbers)} must hold numbers from 1 to {MAX_SIZE}", where=where)
    if 1 not in (len(prompt_lens), len(batch_sizes)) and len(prompt_lens) != len(batch_sizes):
        raise ConfigError(
            f"warmup.prompt_lens has {len(prompt_lens)} values and warmup.batch_sizes has {len(batch_sizes)}",
            where=where,
            hint="give both the same number of values, or one of them a single value",
        )
    count = max(len(prompt_lens), len(batch_sizes))
    lens = list(prompt_lens) * (count if len(prompt_lens) == 1 else 1)
    sizes = list(batch_sizes) * (count if len(batch_sizes) == 1 else 1)
    return _unique([pool_program(length, size) for length, size in zip(lens, sizes, strict=True)], where)


def _unique(programs: list[Program], where: str) -> tuple[Program, ...]:
    twice = next((program for program in programs if programs.count(program) > 1), None)
    if twice is not None:
        raise ConfigError(f"warmup has the shape {shape_of(twice)} twice", where=where, hint="name it once")
    return tuple(sorted(programs, key=shape_order))
