"""A backend behind a guard: whatever it raises or gives, the user reads one line that names it and its plugin."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sendnn_pipeline.backends.base import Bounds, CompileBackend, CompiledProgram, Graph, Limits
from sendnn_pipeline.backends.library_cache import LibraryCache
from sendnn_pipeline.errors import BackendError, PipelineError


@contextmanager
def blaming(what: str, action: str) -> Iterator[None]:
    """Turn what a plugin's code raises into a line that names it; lines for the user pass.

    Args:
        what: whose code it is.
        action: what it does in the block, as in "failed to compile".

    Raises:
        BackendError: the block raised something else.
    """
    try:
        yield
    except PipelineError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:300]
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise BackendError(f"{what} failed to {action}: {reason}") from error


@dataclass(frozen=True)
class GuardedBackend(CompileBackend):
    """Hands everything on to the backend."""

    backend: CompileBackend
    what: str
    """The backend and its plugin, for errors."""
    name: str
    limits: Limits
    library: str
    own_cache: LibraryCache | None = None

    def environment(self, bounds: Bounds, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return its environment for a run's sizes."""
        with blaming(self.what, "tell its environment"):
            return self._texts(self.backend.environment(bounds, environ), "environment")

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return its environment."""
        with blaming(self.what, "prepare"):
            return self._texts(self.backend.prepare(cache_dir, environ), "prepare")

    def compile(self, graph: Graph) -> CompiledProgram:
        """Compile ``graph``."""
        with blaming(self.what, f"compile {graph.name}"):
            return self.backend.compile(graph)

    def open(self, folder: Path, graph: Graph) -> CompiledProgram:
        """Open an artifact."""
        with blaming(self.what, f"open {folder.name}"):
            return self.backend.open(folder, graph)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Enter its context; what is raised within comes out of it."""
        with ExitStack() as entered:
            with blaming(self.what, "trace"):
                entered.enter_context(self.backend.tracing())
            yield

    def seal(self) -> None:
        """Make compiling an error."""
        with blaming(self.what, "seal"):
            self.backend.seal()

    def fingerprint(self) -> Mapping[str, str]:
        """Return its versions and options."""
        with blaming(self.what, "tell its fingerprint"):
            return self._texts(self.backend.fingerprint(), "fingerprint")

    def _texts(self, returned: Any, method: str) -> Mapping[str, str]:
        whole = isinstance(returned, Mapping) and all(
            isinstance(text, str) for pair in returned.items() for text in pair
        )
        if not whole:
            raise BackendError(
                f"{self.what} returned {str(returned)[:100]} from {method}, not a mapping of text to text"
            )
        return dict(returned)
