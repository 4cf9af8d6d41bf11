"""A compiled thing is a Program: a named function whose every dimension is fixed or a bounded range."""

from dataclasses import dataclass

Sizes = tuple[int, ...]
"""One number for each dimension of a Program, in its order."""


@dataclass(frozen=True)
class Dim:
    """One dimension: fixed at ``max``, or, where ``min`` is set, any size between the two."""

    name: str
    max: int
    min: int | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.max if self.min is None else f'{self.min}..{self.max}'}"

    @property
    def smallest(self) -> int:
        """The smallest size that is computed."""
        return self.max if self.min is None else self.min

    def size_for(self, needed: int) -> int | None:
        """Return the size that is computed where ``needed`` is asked for; None where that does not fit."""
        return max(needed, self.smallest) if needed <= self.max else None


@dataclass(frozen=True)
class Program:
    """A function's name and its dims: ``pool[batch=1..64,len=8..256]``, ``decode[batch=8,blocks=1..16]``."""

    function: str
    dims: tuple[Dim, ...]
    helper: bool = False
    """Whether ``backend.simple`` compiles it, rather than the run's backend."""

    @property
    def name(self) -> str:
        """The name that plans, artifacts, metrics and logs use."""
        return f"{self.function}[{','.join(map(str, self.dims))}]"

    @property
    def has_ranges(self) -> bool:
        """Whether some dimension is a range."""
        return any(dim.min is not None for dim in self.dims)

    @property
    def max_sizes(self) -> Sizes:
        """The largest size of every dimension."""
        return tuple(dim.max for dim in self.dims)

    def dim(self, name: str) -> Dim:
        """Return the dimension of this name."""
        return next(dim for dim in self.dims if dim.name == name)

    def sizes_for(self, **needed: int) -> Sizes | None:
        """Return the sizes of a step that needs so much of each dimension; None where it does not fit."""
        sizes = tuple(dim.size_for(needed[dim.name]) for dim in self.dims)
        return None if None in sizes else sizes  # type: ignore[return-value]
