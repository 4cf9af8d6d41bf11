"""A full step on made-up tokens, over the path that requests take."""

import time

import torch

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.generation.device.runner import DeviceRunner
from sendnn_pipeline.generation.programs import PREFILL
from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.generation.steps import Chunk, DecodeStep
from sendnn_pipeline.programs.program import Program, Sizes


def rehearse_device(runner: DeviceRunner, vocab_size: int, program: Program, sizes: Sizes, *, check: bool) -> float:
    """Run a step of ``program`` and return its milliseconds.

    Raises:
        EngineError: what it gives is not of the shape that is planned, or not finite.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, vocab_size, (sizes[0],), generator=generator).tolist()
    blocks, usable = sizes[1], runner.plan.rules.num_blocks - 1
    prefill = program.function == PREFILL
    started = time.perf_counter()
    if prefill:
        result, rows = runner.run_chunk(_chunk(tokens, blocks, usable), counts=check), 1
    else:
        result, rows = runner.run_rows(_decode(tokens, blocks, usable), counts=check), sizes[0]
    ms = (time.perf_counter() - started) * 1000
    if check and (tuple(result.shape) != (rows, vocab_size) or not bool(torch.isfinite(result).all())):
        raise EngineError(
            f"{program.name} gave {tuple(result.shape)} logits, or some that are not finite; {(rows, vocab_size)} are "
            "planned",
            hint="are the weights whole? backend=eager in float16 shows what they give",
        )
    return ms


def _table(row: int, blocks: int, usable: int) -> tuple[int, ...]:
    return tuple(1 + (row * blocks + index) % usable for index in range(blocks))


def _chunk(tokens: list[int], blocks: int, usable: int) -> Chunk:
    """Return the last chunk of a prompt that fills so many blocks."""
    end, table = blocks * BLOCK_SIZE, _table(0, blocks, usable)
    return Chunk(
        request_id=0,
        start=end - len(tokens),
        end=end,
        token_ids=tuple(tokens),
        left_padding=0,
        block_table=table,
        slot_blocks=table[-(len(tokens) // BLOCK_SIZE) :],
        is_last=True,
    )


def _decode(tokens: list[int], blocks: int, usable: int) -> DecodeStep:
    """Return a decode of rows that each fill so many blocks."""
    rows, length = len(tokens), blocks * BLOCK_SIZE
    tables = tuple(_table(row, blocks, usable) for row in range(rows))
    return DecodeStep(
        request_ids=tuple(range(rows)),
        token_ids=tuple(tokens),
        positions=(length - 1,) * rows,
        slots=tuple(table[-1] * BLOCK_SIZE + BLOCK_SIZE - 1 for table in tables),
        block_tables=tables,
        left_padding=(0,) * rows,
        tkv=length,
    )
