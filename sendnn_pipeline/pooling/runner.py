"""Tensors of a pooling step: pad, run the Program, cut."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.pooling.poolers import finite_rows, pool, unit
from sendnn_pipeline.programs.program import PoolProgram

LEAST_RUNS, MOST_RUNS = 2, 5
ENOUGH_MS = 500.0

type_program = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class PoolingRunner:
    """Compiled Programs and the helper that looks for non-finite vectors."""

    compiled: Mapping[PoolProgram, type_program]
    finite: Callable[[torch.Tensor], torch.Tensor]
    pad_token_id: int

    def run(self, program: PoolProgram, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, list[bool]]:
        """Run ``program`` on up to ``batch_size`` rows of token ids.

        Returns:
            Vectors ``[len(rows), dimensions]`` in float32, and whether each is finite.
        """
        ids, mask = pad(rows, program, self.pad_token_id)
        with torch.no_grad():
            vectors = self.compiled[program](ids, mask)[: len(rows)]
            return vectors, self.finite(_any_rows(vectors)).tolist()


def pool_function(model: torch.nn.Module, pooling: str, normalize: bool) -> type_program:
    """Return the function that is compiled: ids and mask ``[batch, length]`` to vectors ``[batch, dimensions]``."""

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = pool(hidden, attention_mask, pooling)
        return unit(vectors) if normalize else vectors

    return forward


def pad(rows: Sequence[Sequence[int]], program: PoolProgram, pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill ``[batch_size, prompt_len]`` with rows padded on the right.

    Rows beyond the last keep one unmasked token: a row without any would divide by zero.
    """
    ids = torch.full((program.batch_size, program.prompt_len), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((program.batch_size, program.prompt_len), dtype=torch.int64)
    mask[len(rows) :, 0] = 1
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[place, : len(row)] = 1
    return ids, mask


def compile_program(backend: CompileBackend, program: PoolProgram, function: type_program, run: Run) -> type_program:
    """Compile ``program`` on inputs of its exact shape."""
    with torch.no_grad():
        return backend.compile(program, function, pad([], program, run.model.pad_token_id), run)


def compile_finite(simple: CompileBackend, dimensions: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile the check for non-finite vectors once, for every number of rows."""
    compiled = simple.compile_helper(finite_rows)
    with torch.no_grad():
        compiled(_any_rows(torch.zeros(3, dimensions)))
    return compiled


def _any_rows(vectors: torch.Tensor) -> torch.Tensor:
    """Mark the number of rows as unknown to the compiler, so that one row is no special case of its own."""
    vectors = vectors.detach()
    torch._dynamo.decorators.mark_unbacked(vectors, 0)
    return vectors


def measure_ms(
    runner: PoolingRunner, programs: Iterable[PoolProgram], vocab_size: int
) -> Iterable[tuple[PoolProgram, float]]:
    """Run each Program on full rows and yield the least of a few timings in milliseconds.

    Raises:
        RuntimeError: vectors have the wrong shape or are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    for program in programs:
        size = (program.batch_size, program.prompt_len)
        rows: Any = torch.randint(1, vocab_size, size, generator=generator).tolist()
        timings: list[float] = []
        while len(timings) < LEAST_RUNS or (len(timings) < MOST_RUNS and sum(timings) < ENOUGH_MS):
            started = time.perf_counter()
            vectors, finite = runner.run(program, rows)
            timings.append((time.perf_counter() - started) * 1000)
        if vectors.shape[0] != program.batch_size or not all(finite):
            raise RuntimeError(f"{program.name} gave {tuple(vectors.shape)} with {finite.count(False)} non-finite rows")
        yield program, min(timings)
