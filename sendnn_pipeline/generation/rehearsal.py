"""A full step on made-up tokens, over the path that requests take."""

import time
from typing import Any

import torch

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.generation.programs import DECODE, LOGITS, MERGE, PREFILL, part_of
from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of
from sendnn_pipeline.generation.runner import GenerationRunner
from sendnn_pipeline.generation.steps import Chunk, DecodeStep
from sendnn_pipeline.programs.program import Program, Sizes


def rehearse(runner: GenerationRunner, vocab_size: int, program: Program, sizes: Sizes, *, check: bool) -> float:
    """Run a step of ``program``, through all layers, and return its milliseconds.

    Raises:
        EngineError: what it gives is not of the shape that is planned, or not finite.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, vocab_size, (sizes[0],), generator=generator).tolist()
    started = time.perf_counter()
    result: Any
    part = part_of(program)
    if part == PREFILL:
        result = torch.cat(list(runner.prefill(_chunks(tokens, *sizes[1:]))))
    elif part == DECODE:
        result = runner.decode(_decode(tokens, sizes[1], runner.plan.rules.num_blocks))
    elif part == LOGITS:
        hidden = torch.randn(sizes[0], runner.hidden_size, generator=generator)
        started = time.perf_counter()
        result = runner.logits(hidden).rows
    elif part == MERGE:
        rows = torch.randn(sizes[0], runner.hidden_size, generator=generator).to(runner.layers[0].cache[0].dtype)
        assert runner.merge is not None
        started = time.perf_counter()
        with torch.no_grad():
            places = torch.arange(len(tokens))
            (result,) = runner.merge(torch.tensor(tokens), places, places % 2, rows)
    else:
        with torch.no_grad():
            (result,) = runner.embed(torch.tensor(tokens), torch.arange(len(tokens)))
    ms = (time.perf_counter() - started) * 1000
    if check and (len(result) != sizes[0] or not bool(torch.isfinite(result).all())):
        raise EngineError(
            f"{program.name} gave {tuple(result.shape)} and numbers that are not finite; {sizes[0]} rows are planned",
            hint="are the weights whole? model.dtype=float32 has the widest range",
        )
    return ms


def _chunks(tokens: list[int], prompts: int, longest: int, num_blocks: int) -> list[Chunk]:
    """Return the last chunks, of equal length, of prompts that take so many blocks each."""
    return [_chunk(tokens[row * longest : (row + 1) * longest], row, num_blocks) for row in range(prompts)]


def _chunk(tokens: list[int], row: int, num_blocks: int) -> Chunk:
    mine = num_blocks_of(len(tokens))
    end = (num_blocks - mine) * BLOCK_SIZE + len(tokens)
    table = tuple(1 + row * num_blocks + index for index in range(num_blocks))
    return Chunk(
        request_id=row,
        start=end - len(tokens),
        end=end,
        token_ids=tuple(tokens),
        left_padding=0,
        block_table=table,
        slot_blocks=table[-mine:],
        is_last=True,
    )


def _decode(tokens: list[int], num_blocks: int, all_blocks: int) -> DecodeStep:
    """Return a decode of rows that have so many blocks together."""
    rows = len(tokens)
    counts = [num_blocks // rows + (row < num_blocks % rows) for row in range(rows)]
    usable = all_blocks - 1
    tables, first = [], 0
    for amount in counts:
        tables.append(tuple(1 + (first + index) % usable for index in range(amount)))
        first += amount
    return DecodeStep(
        request_ids=tuple(range(rows)),
        token_ids=tuple(tokens),
        positions=tuple(amount * BLOCK_SIZE - 1 for amount in counts),
        slots=tuple(table[-1] * BLOCK_SIZE + BLOCK_SIZE - 1 for table in tables),
        block_tables=tuple(tables),
        left_padding=(0,) * rows,
        tkv=max(counts) * BLOCK_SIZE,
    )
