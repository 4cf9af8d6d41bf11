"""The backend: graphs traced within torch_sendnn's warmup, compiled when that is left, deployed in the same order."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.backends.base import Bounds, CompileBackend, CompiledProgram, Graph, Limits, WholeDecoder
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.backends.sendnn.cache import SendnnCache
from sendnn_pipeline.backends.sendnn.cards import check_cards
from sendnn_pipeline.backends.sendnn.environment import CACHE_DIR, CACHE_ENABLE, device_variables, tkv_limit
from sendnn_pipeline.backends.sendnn.handlers import current_handlers, put_back
from sendnn_pipeline.backends.sendnn.tracing import tracing_settings
from sendnn_pipeline.backends.sendnn.versions import LIBRARY, is_here, library_version
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.machine.environ import process_environment

if TYPE_CHECKING:
    import signal

COMPILE_ONLY = "sendnn_compile_only"
# Lengths in whole 64-token blocks; float16 is what the card computes; by default the registry's 64x1.
LIMITS = Limits(token_multiple=64, dtypes=("float16",), default_shapes=("64x1",), artifacts="own_cache")
# What the device's compiler is known to take of decoders.
DECODER = WholeDecoder(prefill_chunk=512, max_batch_tkv=131_072, max_num_seqs=32, max_model_len=32_768)
HINT = "DISABLE_COMPILATION=true takes only what TORCH_SENDNN_CACHE_DIR has; DTLOG_LEVEL=info says more"


class SendnnBackend(CompileBackend):
    """Compiles Programs for a Spyre card, or without one for a machine that has it."""

    library = LIBRARY

    def __init__(self, options: SendnnConfig) -> None:
        self.name, self.options = options.name, options
        self.compiles_only = options.name == COMPILE_ONLY
        decoder = replace(DECODER, max_batch_tkv=tkv_limit(options) or DECODER.max_batch_tkv)
        self.limits = replace(LIMITS, runs=not self.compiles_only, whole_decoder=decoder)
        self.own_cache = SendnnCache(options)
        self._runtime: Any = None
        self._dynamic = self._is_tracing = False
        self._handlers: dict[signal.Signals, Any] = {}

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
        """Find torch_sendnn, which is imported in the engine's process alone."""
        if not is_here():
            raise BackendError(
                f"backend={self.name} needs {LIBRARY}, which is not importable",
                hint=f"it comes with IBM's images for Spyre; `doctor backend={self.name}` says what else is missing",
            )
        if environ.get(CACHE_ENABLE) == "1" and environ.get(CACHE_DIR):
            _make_folder(Path(environ[CACHE_DIR]))
        return {}

    def environment(self, bounds: Bounds, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the device's variables: the run's sizes, and what its known configuration sets."""
        if not self.compiles_only:
            check_cards(environ, bounds.local_ranks)
        return device_variables(bounds, self.options, environ, compiles_only=self.compiles_only)

    def compile(self, graph: Graph) -> CompiledProgram:
        """Hand the graph to dynamo, which traces it in ``tracing``."""
        self._import()
        from sendnn_pipeline.backends.sendnn.program import compile_graph

        self._dynamic = self._dynamic or graph.decoder
        return compile_graph(graph, self.name, lambda: self._is_tracing)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace within; on leaving, the device's compiler takes all graphs together, also where the block failed."""
        failed: list[BaseException] = []
        try:
            with ExitStack() as entered:
                settings = tracing_settings(process_environment(), dynamic=self._dynamic)
                entered.enter_context(settings)
                entered.enter_context(self._import().warmup_mode())
                self._is_tracing = True
                try:
                    yield
                except BaseException as error:
                    failed.append(error)
                    raise
                finally:
                    self._is_tracing = False
                self._leave(entered)
        finally:
            if failed:
                # Whatever the library makes of it: that its context takes an error for its own, or has another.
                raise failed[0]

    @staticmethod
    def _leave(entered: ExitStack) -> None:
        try:
            entered.close()
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise BackendError(f"Spyre's compiler failed: {type(error).__name__}: {reason}", hint=HINT) from error

    def seal(self) -> None:
        """Make compiling an error, and give back the signals that the runtime took at its first use."""
        import torch

        torch.compiler.set_stance("fail_on_recompile")
        put_back(self._handlers)

    def fingerprint(self) -> dict[str, str]:
        """Return the versions of torch_sendnn and torch."""
        return {LIBRARY: library_version() or "unknown", "torch": version("torch")}

    def _import(self) -> Any:
        if self._runtime is None:
            from sendnn_pipeline.backends.sendnn.runtime import import_runtime

            self._handlers = current_handlers()
            self._runtime = import_runtime(self.name)
        return self._runtime


def _make_folder(folder: Path) -> None:
    """Make the library's cache: it does not do so itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"{CACHE_DIR}={folder} cannot be made: {error.strerror}", hint="name a folder that can be written"
        ) from None
