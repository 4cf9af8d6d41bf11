"""What is handed to a compile backend for a pooling run."""

from collections.abc import Mapping

import torch
from torch import nn

from sendnn_pipeline.backends.base import Graph, Range
from sendnn_pipeline.pooling.function import FiniteRows
from sendnn_pipeline.pooling.runner import pad, types_of
from sendnn_pipeline.programs.program import PoolProgram

HELPER_ROWS = 4096


def pool_graph(
    program: PoolProgram,
    function: nn.Module,
    weights: Mapping[str, torch.Tensor],
    pad_token_id: int,
    *,
    token_types: bool = False,
) -> Graph:
    """Return ``program`` as a graph, its example two rows at least where the batch is a range."""
    ranges = {}
    batch, length = program.batch_size, program.prompt_len
    if program.least_batch is not None:
        ranges[0] = Range("batch", program.least_batch, program.batch_size)
        batch = min(2 + program.least_batch, program.batch_size)
    if program.least_len is not None:
        ranges[1] = Range("length", program.least_len, program.prompt_len)
        length = min(16 + program.least_len, program.prompt_len)
    example = pad([], batch, length, pad_token_id)
    if token_types:
        example = (*example, types_of([], [], batch, length))
    return Graph(program.name, function, example, (ranges,) * len(example), weights)


def finite_graph(dimensions: int, most_rows: int) -> Graph:
    """Return the check for non-finite vectors, for at least ``most_rows`` rows; one graph for most runs."""
    rows = max(HELPER_ROWS, most_rows)
    return Graph(
        f"finite[rows=1..{rows},dimensions={dimensions}]",
        FiniteRows(),
        (torch.zeros(2, dimensions),),
        ({0: Range("rows", 1, rows)},),
        {},
    )
