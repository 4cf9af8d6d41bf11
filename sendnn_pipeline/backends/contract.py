"""Plugins' backends against the contract: what is wrong is one line that names the plugin, not a traceback of ours."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sendnn_pipeline.backends.base import DTYPES, CompileBackend, CompiledCall, CompiledProgram, Graph, Limits
from sendnn_pipeline.backends.guard import blaming
from sendnn_pipeline.errors import BackendError, PluginError
from sendnn_pipeline.hooks.registry import check_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

LIMITS = "see Limits in backends/base.py"
CONTRACT = "see `What changed` in plugins/README.md"
# What a backend of 0.1 had, and where that is now.
MOVED = {
    "limits": "an attribute, a Limits",
    "portable": "limits.artifacts",
    "embeds_weights": "limits.embeds_weights",
    "save": "CompiledProgram.save",
    "load": "open",
}


def refuse_older(candidate: Any, what: str) -> None:
    """Refuse a backend, or its class, that is written for 0.1: then ``limits`` was a method.

    Raises:
        PluginError: it is one; the message says what moved.
    """
    if callable(getattr(candidate, "limits", None)):
        moved = [f"{name} is now {now}" for name, now in MOVED.items() if hasattr(candidate, name)]
        raise PluginError(f"{what} is written for the contract of 0.1: {', '.join(moved)}", hint=CONTRACT)


def check_backend(backend: Any, what: str) -> CompileBackend:
    """Return the backend.

    Raises:
        PluginError: it lacks a part, or promises artifacts that it cannot open.
    """
    check_parts(what, backend, _members(CompileBackend), "see CompileBackend in backends/base.py")
    if not isinstance(backend.limits, Limits):
        raise PluginError(f"{what} has limits that are not a Limits, but {backend.limits!r}", hint=CONTRACT)
    try:
        limits = msgspec.convert(asdict(backend.limits), Limits)
    except (msgspec.ValidationError, TypeError) as error:
        raise PluginError(f"{what} has limits of another type: {error}", hint=LIMITS) from None
    odd = [dtype for dtype in (*limits.dtypes, *limits.embeds_weights, *limits.single_rows) if dtype not in DTYPES]
    if odd or not limits.dtypes or limits.token_multiple < 1:
        wrong = f"the dtype {odd[0]}" if odd else "no dtypes" if not limits.dtypes else "token_multiple below 1"
        raise PluginError(f"{what} has limits with {wrong}", hint=LIMITS)
    if backend.limits.artifacts == "files" and getattr(type(backend), "open", None) is CompileBackend.open:
        raise PluginError(f"{what} has limits.artifacts=files and no open", hint="see CompileBackend.open")
    checked: CompileBackend = backend
    return checked


def check_graph(graph: Graph, backend: CompileBackend) -> None:
    """Refuse a graph that the backend would compile to something else.

    Raises:
        BackendError: it writes into inputs, which the backend does not do in place.
    """
    if graph.written and not backend.limits.in_place:
        raise BackendError(
            f"{graph.name} writes into {', '.join(graph.written)}, and backend={backend.name} updates nothing in place",
            hint="use backend=inductor",
        )


@dataclass(frozen=True)
class CheckedProgram(CompiledProgram):
    """A compiled Program whose first call shows whether it returns what its graph does."""

    compiled: CompiledProgram
    graph: Graph
    backend: str
    holds_parameters: bool

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return its call, checked."""
        with blaming(f"backend={self.backend}", f"bind {self.graph.name}"):
            call = self.compiled.bind(weights)
        return _CheckedCall(call, self.graph.name, self.graph.outputs, self.backend)

    def save(self, folder: Path) -> None:
        """Write it; a disk that takes no more is the store's to explain."""
        try:
            self.compiled.save(folder)
        except OSError:
            raise
        except Exception as error:
            raise BackendError(f"backend={self.backend} failed to save {self.graph.name}: {error}") from error


def check_compiled(compiled: Any, graph: Graph, backend: str) -> CompiledProgram:
    """Return the compiled Program, its outputs to be checked when it first runs.

    Raises:
        BackendError: it is not a ``CompiledProgram``.
    """
    lacking = [name for name in _members(CompiledProgram) if not hasattr(compiled, name)]
    if lacking:
        raise BackendError(
            f"backend={backend} made a {type(compiled).__name__} of {graph.name}, which lacks {', '.join(lacking)}",
            hint="see CompiledProgram in backends/base.py",
        )
    return CheckedProgram(compiled, graph, backend, compiled.holds_parameters)


@dataclass
class _CheckedCall:
    call: CompiledCall
    program: str
    outputs: tuple[str, ...]
    backend: str
    checked: bool = field(default=False, init=False)

    def __call__(self, *inputs: "torch.Tensor") -> "Sequence[torch.Tensor]":
        if self.checked:
            return self.call(*inputs)
        with blaming(f"backend={self.backend}", f"run {self.program}"):
            returned = self.call(*inputs)
            if not isinstance(returned, tuple | list) or len(returned) != len(self.outputs):
                count = f"{len(returned)} outputs" if isinstance(returned, tuple | list) else type(returned).__name__
                raise BackendError(
                    f"{self.program} by backend={self.backend} returned {count}, not the tuple "
                    f"({', '.join(self.outputs)})",
                    hint="a CompiledCall returns every output of its graph, in order",
                )
        self.checked = True
        return returned


def _members(contract: type) -> list[str]:
    names = {*contract.__annotations__, *vars(contract)}
    return sorted(name for name in names if not name.startswith("_"))
