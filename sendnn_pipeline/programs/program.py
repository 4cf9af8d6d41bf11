"""A compiled thing is a Program: a named function whose every dimension is fixed or a bounded range."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from sendnn_pipeline.config.shapes import Shape, bounds


@dataclass(frozen=True)
class PoolProgram(Shape):
    """Token ids and mask of ``[batch, length]`` in, one vector a row out."""

    @property
    def name(self) -> str:
        """The name that plans, metrics and logs use."""
        batch, length = bounds(self.batch_size, self.least_batch), bounds(self.prompt_len, self.least_len)
        return f"pool[batch={batch},len={length}]"

    def dims(self, rows: int, longest: int) -> tuple[int, int]:
        """Return batch and length of a step of ``rows`` inputs, the longest of ``longest`` tokens."""
        batch = self.batch_size if self.least_batch is None else max(rows, self.least_batch)
        length = self.prompt_len if self.least_len is None else max(longest, self.least_len)
        return batch, length

    def rows_at(self, length: int, step_tokens: int) -> int:
        """Return the most inputs of a step padded to ``length``, of ``step_tokens`` in all where the batch is free."""
        if self.least_batch is None:
            return self.batch_size
        return max(self.least_batch, min(self.batch_size, step_tokens // length))

    def most_tokens(self, step_tokens: int) -> int:
        """Return the tokens of its largest step, padding included."""
        return self.rows_at(self.prompt_len, step_tokens) * self.prompt_len


@dataclass(frozen=True)
class ShapePlan:
    """The Programs of a run, shortest first."""

    programs: tuple[PoolProgram, ...]

    @property
    def longest(self) -> int:
        """The longest input, in tokens, that some Program takes."""
        return max(program.prompt_len for program in self.programs)


def plan_pooling(shapes: Iterable[Shape]) -> ShapePlan:
    """Make one Program of every shape."""
    return ShapePlan(tuple(PoolProgram(*astuple(shape)) for shape in sorted(shapes, key=Shape.order)))
