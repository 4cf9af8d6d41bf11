"""What a compile backend is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.programs.program import PoolProgram

type_function = Callable[..., "torch.Tensor"]


@dataclass(frozen=True)
class Limits:
    """What a backend asks of the Programs it compiles."""

    token_multiple: int = 1
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    helpers: bool = True
    """Whether it compiles small helper graphs on the CPU, so that ``backend.simple`` can name it."""


class CompileBackend(Protocol):
    """How a Program is compiled. Constructing one imports nothing heavy."""

    name: str

    def limits(self, run: "Run") -> Limits:
        """Return what Programs must respect; called before the model is loaded, without torch."""

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Check that the backend can work here and return the environment its library must find at import.

        Called before anything is loaded, without torch, in the process that starts the engine.

        Raises:
            BackendError: a library or compiler is missing, or a cache cannot be written.
        """

    def compile(
        self, program: "PoolProgram", function: type_function, example: "Sequence[torch.Tensor]", run: "Run"
    ) -> type_function:
        """Compile ``function`` as a full graph of its own for exactly the shapes of ``example``.

        The example is run once. No call of the result compiles again.

        Raises:
            BackendError: the function does not compile; there is no fallback.
        """

    def compile_helper(self, function: type_function) -> type_function:
        """Compile a small graph that takes any size in its first dimension."""

    def fingerprint(self) -> str:
        """Return the version of what generates code, for caches and ``/info``."""
