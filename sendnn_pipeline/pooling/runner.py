"""Tensors of a pooling step: pad, run the Program, cut."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sendnn_pipeline.programs.program import PoolProgram

LEAST_RUNS, MOST_RUNS = 2, 5
ENOUGH_MS = 500.0

type_program = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class PoolingRunner:
    """Compiled Programs and the helper that looks for non-finite vectors."""

    compiled: Mapping[PoolProgram, type_program]
    finite: Callable[[torch.Tensor], torch.Tensor]
    pad_token_id: int
    token_types: bool = False
    """Whether Programs take token types."""

    def run(
        self, program: PoolProgram, rows: Sequence[Sequence[int]], second_at: Sequence[int] = ()
    ) -> tuple[torch.Tensor, list[bool]]:
        """Run ``program`` on rows of token ids, as many as it takes or fewer.

        Args:
            program: what runs.
            rows: token ids.
            second_at: where the second text of each row begins, 0 where there is none; empty stands for all 0.

        Returns:
            Vectors ``[len(rows), dimensions]`` in float32, and whether each is finite.
        """
        batch, length = program.dims(len(rows), max(map(len, rows)))
        inputs = pad(rows, batch, length, self.pad_token_id)
        if self.token_types:
            inputs = (*inputs, types_of(rows, second_at, batch, length))
        with torch.inference_mode():
            vectors = self.compiled[program](*inputs)
            return vectors[: len(rows)], self.finite(vectors)[: len(rows)].tolist()


def pad(rows: Sequence[Sequence[int]], batch: int, length: int, pad_token_id: int) -> tuple[torch.Tensor, ...]:
    """Fill ``[batch, length]`` with rows padded on the right, and return it with its mask.

    Rows beyond the last keep one unmasked token: a row without any would divide by zero.
    """
    ids = torch.full((batch, length), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((batch, length), dtype=torch.int64)
    mask[len(rows) :, 0] = 1
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[place, : len(row)] = 1
    return ids, mask


def types_of(rows: Sequence[Sequence[int]], second_at: Sequence[int], batch: int, length: int) -> torch.Tensor:
    """Return token types ``[batch, length]``: 1 from where the second text of a row begins to its end, else 0."""
    types = torch.zeros((batch, length), dtype=torch.int64)
    for place, (row, second) in enumerate(zip(rows, second_at, strict=False)):
        if second:
            types[place, second : len(row)] = 1
    return types


def sizes_to_measure(program: PoolProgram, step_tokens: int) -> list[tuple[int, int]]:
    """Return the batch and length of the steps whose times say what every other step of ``program`` costs."""
    lengths = {program.prompt_len}
    if program.least_len is not None:
        lengths |= {length for length in (32, 128) if program.least_len <= length < program.prompt_len}
    sizes = set()
    for length in lengths:
        most = program.rows_at(length, step_tokens)
        sizes.add((most, length))
        if program.least_batch is not None:
            sizes.add((program.least_batch, length))
    return sorted(sizes, key=lambda size: size[0] * size[1])


def prove(runner: PoolingRunner, program: PoolProgram, size: tuple[int, int], vocab_size: int) -> float:
    """Run a full step of batch and length on made-up tokens and return its milliseconds.

    Raises:
        RuntimeError: vectors have the wrong shape or are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    rows: Any = torch.randint(1, vocab_size, size, generator=generator).tolist()
    started = time.perf_counter()
    vectors, finite = runner.run(program, rows)
    ms = (time.perf_counter() - started) * 1000
    if vectors.shape[0] != size[0] or not all(finite):
        raise RuntimeError(f"{program.name} gave {tuple(vectors.shape)} with {finite.count(False)} non-finite rows")
    return ms


def measure_ms(
    runner: PoolingRunner, program: PoolProgram, sizes: Iterable[tuple[int, int]], vocab_size: int
) -> dict[tuple[int, int], float]:
    """Run full steps of each size and return the least of a few timings in milliseconds."""
    measured = {}
    for size in sizes:
        timings: list[float] = []
        while len(timings) < LEAST_RUNS or (len(timings) < MOST_RUNS and sum(timings) < ENOUGH_MS):
            timings.append(prove(runner, program, size, vocab_size))
        measured[size] = min(timings)
    return measured
