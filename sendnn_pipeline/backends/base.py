"""What a compile backend is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig

type_function = Callable[..., "torch.Tensor"]


@dataclass(frozen=True)
class Limits:
    """What a backend asks of the Programs it compiles."""

    token_multiple: int = 1
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    """What it computes; ``model.dtype=auto`` takes bfloat16 where the CPU and this have it, else the first."""
    helpers: bool = True
    """Whether it compiles small helper graphs on the CPU, their rows a range: then ``backend.simple`` can name it."""
    ranges: bool = False
    """Whether one Program can take every size between two bounds."""
    default_shapes: tuple[str, ...] = ()
    """What ``warmup=auto`` stands for, where it is not to be chosen from the workload."""
    streams: bool = False
    """Whether several threads may run compiled functions at once, Python's lock let go."""


@dataclass(frozen=True)
class Range:
    """A dimension of the inputs that is no fixed size. Equal names are equal sizes."""

    name: str
    least: int
    most: int


@dataclass(frozen=True)
class Graph:
    """What is compiled as one Program."""

    name: str
    function: "torch.nn.Module"
    """Takes the inputs and returns one tensor."""
    example: "tuple[torch.Tensor, ...]"
    """Inputs with the shapes that are compiled for; ranged dimensions have any size within, two or more."""
    ranges: Sequence[Mapping[int, Range]]
    """For every input its dimensions that are ranges."""
    weights: "Mapping[str, torch.Tensor]"
    """The checkpoint's tensors in the run's dtype, by the checkpoint's names."""


class CompileBackend(Protocol):
    """How a Program is compiled. Constructing one imports nothing heavy."""

    name: str

    def limits(self, config: "RunConfig") -> Limits:
        """Return what Programs must respect; called before the model is read, without torch."""

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Check that the backend can work here and return the environment its library must find at import.

        Called before anything is loaded, without torch, in the process that starts the engine.

        Raises:
            BackendError: a library or compiler is missing, or a cache cannot be written.
        """

    def compile(self, graph: Graph, run: "Run") -> type_function:
        """Compile ``graph`` as a full graph of its own. No call of the result compiles again.

        Raises:
            BackendError: the function does not compile; there is no fallback.
        """

    def save(self, compiled: type_function, folder: Path) -> None:
        """Write what ``compile`` returned into the empty ``folder``; called only when ``portable`` says yes."""

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> type_function:
        """Open what ``save`` wrote, compiling nothing. The files were verified.

        Raises:
            BackendError: they cannot be opened.
        """

    def portable(self, run: "Run") -> bool:
        """Return whether what is compiled can leave the process: then artifacts are looked for before compiling."""

    def embeds_weights(self, run: "Run") -> bool:
        """Return whether each Program holds a copy of the weights; the plan prices it."""

    def fingerprint(self, run: "Run") -> Mapping[str, str]:
        """Return the versions and options that decide what is generated, for the store's keys and ``/info``."""


class NotPortable:
    """The part of a backend whose compiled functions live and die with their process."""

    name: str

    def save(self, compiled: type_function, folder: Path) -> NoReturn:
        """Never reached: ``portable`` says no."""
        raise BackendError(f"backend={self.name} keeps no artifacts")

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> NoReturn:
        """Never reached: ``portable`` says no."""
        raise BackendError(f"backend={self.name} keeps no artifacts")

    def portable(self, run: "Run") -> bool:
        """Say no."""
        return False
