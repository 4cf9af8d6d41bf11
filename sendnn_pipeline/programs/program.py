"""A compiled thing is a Program: a named function whose every dimension is fixed."""

from collections.abc import Iterable
from dataclasses import dataclass

from sendnn_pipeline.config.shapes import Shape


@dataclass(frozen=True, order=True)
class PoolProgram:
    """Token ids and mask of ``[batch_size, prompt_len]`` in, one vector a row out."""

    prompt_len: int
    batch_size: int

    @property
    def name(self) -> str:
        """The name that plans, metrics and logs use."""
        return f"pool[batch={self.batch_size},len={self.prompt_len}]"

    @property
    def num_tokens(self) -> int:
        """Tokens computed each time it runs, padding included."""
        return self.batch_size * self.prompt_len


@dataclass(frozen=True)
class ShapePlan:
    """The Programs of a run, shortest first."""

    programs: tuple[PoolProgram, ...]

    @property
    def longest(self) -> int:
        """The longest input, in tokens, that some Program takes."""
        return max(program.prompt_len for program in self.programs)

    def fitting(self, num_tokens: int) -> tuple[PoolProgram, ...]:
        """Return the Programs that take an input of ``num_tokens``."""
        return tuple(program for program in self.programs if program.prompt_len >= num_tokens)


def plan_pooling(shapes: Iterable[Shape]) -> ShapePlan:
    """Make one Program of every shape."""
    return ShapePlan(tuple(sorted(PoolProgram(shape.prompt_len, shape.batch_size) for shape in shapes)))
