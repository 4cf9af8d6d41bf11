"""What a compile backend is: the contract between it, the engines that bring graphs, and the pipeline."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.program import Program

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sendnn_pipeline.backends.library_cache import LibraryCache

DTYPES = ("float32", "bfloat16", "float16")
CompiledCall = Callable[..., "Sequence[torch.Tensor]"]
"""A Program that runs: its inputs in their order to its outputs in theirs."""
# Names of 0.1, so that a plugin that imports one is told where to look.
REMOVED = ("NotPortable", "Range", "type_function")


@dataclass(frozen=True)
class WholeDecoder:
    """What a device asks that takes a decoder as one graph, over a KV cache that comes back with the logits.

    Prompts are padded on the left to whole chunks, one chunk a step; decodes are rectangles, padded on the left, too.
    """

    prefill_chunk: int
    """Tokens of a chunk, unless a run says otherwise."""
    max_batch_tkv: int
    """Most sequences times tokens, padding included, of a decode."""
    max_num_seqs: int
    max_model_len: int


@dataclass(frozen=True)
class Limits:
    """What a backend asks of Programs, and what it can do with them: what an engine plans by."""

    token_multiple: int = 1
    """Lengths in tokens are multiples of this."""
    dtypes: tuple[str, ...] = DTYPES
    """What it computes; ``model.dtype=auto`` takes bfloat16 where the CPU and this have it, else the first."""
    ranges: bool = False
    """Whether one Program can take every size between two bounds."""
    default_shapes: tuple[str, ...] = ()
    """What ``warmup=auto`` stands for, where it is not to be chosen from the workload."""
    concurrent_steps: bool = False
    """Whether several threads may run Programs at once, Python's lock let go."""
    embeds_weights: tuple[str, ...] = ()
    """Dtypes in which every Program holds a copy of the weights: the plan prices it, and ``bind`` reads none."""
    exchangeable_weights: bool = False
    """Whether one compiled Program can be bound to several sets of weights, as one decoder layer is to thirty; in
    every dtype in which it does not hold a copy."""
    in_place: bool = False
    """Whether inputs marked ``written`` are updated where they are."""
    helpers: bool = False
    """Whether it compiles helper Programs on the CPU, their rows a range: then ``backend.simple`` can name it."""
    single_rows: tuple[str, ...] = ()
    """Dtypes in which a Program of one row alone is faster than one of a range that begins with it."""
    concurrent_compiles: bool = False
    """Whether several threads may call ``compile`` at once, each for another Program."""
    artifacts: Literal["files", "own_cache", "none"] = "none"
    """What outlives the process: folders that ``save`` fills, a cache that the library keeps itself, or nothing."""
    whole_decoder: WholeDecoder | None = None
    """How it takes a decoder whole; None where it compiles one layer and binds it to the weights of all."""
    runs: bool = True
    """Whether Programs run here; False where they are only compiled, for another machine."""


@dataclass(frozen=True)
class Bounds:
    """The largest sizes of a run, which a device's library is told before it is imported."""

    max_length: int = 0
    """Tokens of the longest sequence, its output included."""
    max_batch: int = 0
    """Sequences of the largest step."""
    chunk: int = 0
    """Tokens of a prefill step; 0 where nothing is generated."""
    max_batch_tkv: int = 0
    """Most sequences times tokens of a decode; 0 where nothing is generated."""
    precompiled: bool = False
    """Whether nothing may be compiled."""
    num_blocks: int = 0
    """KV blocks, where they are compiled in; 0 where nothing is generated."""
    shapes: tuple[tuple[int, int], ...] = ()
    """Length and batch of each Program of fixed sizes; none where something is generated."""
    ranks: int = 1
    """Processes that compute together, each with a device of its own."""
    local_ranks: int = 1
    """Of those, the ones on this machine."""


@dataclass(frozen=True)
class Input:
    """One input of a graph."""

    name: str
    example: "torch.Tensor"
    """At sizes to compile for; a ranged axis has any size within, two or more."""
    axes: Mapping[int, str] = field(default_factory=dict)
    """By axis the Program's dimension whose size it has; the other axes are fixed."""
    written: bool = False
    """Whether the graph writes into it, as into a KV cache: the same storage at every call, never a copy."""


@dataclass(frozen=True)
class Graph:
    """What is compiled as one Program. Cheap to make: only ``function`` loads the model."""

    program: Program
    build: "Callable[[], nn.Module]"
    """Makes the module, in eval mode; it takes the inputs in order and returns a tuple of tensors."""
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    """Names of what it returns."""
    dtype: str = "float32"
    """Of the weights."""
    parameters: "Callable[[], Mapping[str, str]]" = dict
    """Gives the checkpoint's name of each parameter by the module's; ``{layer}`` stands for what ``bind`` exchanges."""
    concurrent_calls: int = 1
    """How many threads call it at once."""
    decoder: bool = False
    """Whether it is a whole decoder: ``prefill`` or ``decode``, over a paged cache that it returns."""
    shares_weights: bool = False
    """Whether it reads weights where they are, whatever the dtype: one decoder layer is bound to those of thirty."""

    @property
    def name(self) -> str:
        """The Program's name, for errors."""
        return self.program.name

    @cached_property
    def function(self) -> "nn.Module":
        """The module."""
        return self.build()

    @property
    def example(self) -> "tuple[torch.Tensor, ...]":
        """An example of every input."""
        return tuple(entry.example for entry in self.inputs)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the inputs that it writes into."""
        return tuple(entry.name for entry in self.inputs if entry.written)


class CompiledProgram(Protocol):
    """A graph that is compiled, or opened from an artifact. Subclass it for what it does by default."""

    holds_parameters: bool = True
    """Whether it holds parameters of the weights it was compiled with, so that it fits no others."""

    @abstractmethod
    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return a call over these weights, by the checkpoint's names; reads only those that it needs.

        Raises:
            BackendError: a weight that it needs is missing.
        """

    def save(self, folder: Path) -> None:
        """Write it into the empty ``folder``; called where ``limits.artifacts`` is ``files``."""
        raise BackendError(f"{type(self).__name__} keeps no artifacts")


class CompileBackend(Protocol):
    """How Programs are compiled. Subclass it for what it does by default.

    A factory makes it of the backend's own typed options and imports nothing heavy.
    """

    name: str
    limits: Limits
    library: str = ""
    """The module that reads its environment when it is imported, for runs in the caller's own process."""
    own_cache: "LibraryCache | None" = None
    """The cache that the library keeps, where ``limits.artifacts`` is ``own_cache`` and its folder can be chosen."""

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Check that the backend can work here and return the environment its library must find at import.

        Called before anything is loaded, without torch, in the process that starts the engine.

        Raises:
            BackendError: the library is missing, or a cache cannot be written.
        """
        return {}

    def environment(self, bounds: Bounds, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return more of that environment: what depends on the run's sizes. Called as ``prepare`` is, before it.

        Raises:
            BackendError: a variable that is set has no meaning.
        """
        return {}

    @abstractmethod
    def compile(self, graph: Graph) -> CompiledProgram:
        """Compile ``graph`` as a full graph of its own. No call of the result compiles again once sealed.

        Raises:
            BackendError: the function does not compile; there is no fallback.
        """

    def open(self, folder: Path, graph: Graph) -> CompiledProgram:
        """Open what ``save`` wrote for such a graph, whose files were verified, without touching ``graph.function``.

        Raises:
            BackendError: they cannot be opened; the Program is then compiled again.
        """
        raise BackendError(f"backend={self.name} keeps no artifacts")

    def tracing(self) -> AbstractContextManager[None]:
        """Return the context in which every Program runs once at its smallest, before any result counts."""
        return nullcontext()

    def seal(self) -> None:
        """Make compiling an error from now on; every Program has run. What is compiled ahead of time cannot anyway."""
        return

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions and options that decide what is generated, for the store's keys and ``/info``."""


def __getattr__(name: str) -> Any:
    if name in REMOVED:
        raise ImportError(f"{name} is of the contract of 0.1; see `What changed` in plugins/README.md")
    raise AttributeError(f"module {__name__} has no attribute {name}")
