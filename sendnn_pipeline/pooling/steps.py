"""How large the steps of a pooling Program may be. Decides only: no torch."""

from sendnn_pipeline.engines.plan import Step
from sendnn_pipeline.pooling.shapes import BATCH, LENGTH
from sendnn_pipeline.programs.program import Program

# Lengths beside the largest at which a ranged Program is timed: what its steps cost is fitted to them.
TIMED_LENGTHS = (32, 128)


def max_rows(program: Program, length: int, step_tokens: int) -> int:
    """Return the most inputs of a step padded to ``length``, of ``step_tokens`` in all where the batch is a range."""
    batch = program.dim(BATCH)
    if batch.min is None:
        return batch.max
    return max(batch.min, min(batch.max, step_tokens // length))


def steps_to_time(program: Program, step_tokens: int) -> tuple[Step, ...]:
    """Return the full steps whose times say what every other step of ``program`` costs, the smallest first."""
    batch, length = program.dim(BATCH), program.dim(LENGTH)
    lengths = {length.max}
    if length.min is not None:
        lengths |= {size for size in TIMED_LENGTHS if length.min <= size < length.max}
    sizes = set()
    for size in lengths:
        sizes.add((max_rows(program, size, step_tokens), size))
        sizes.add((batch.smallest, size))
    return tuple(Step(step, step[0] * step[1]) for step in sorted(sizes, key=lambda step: (step[0] * step[1], step)))
