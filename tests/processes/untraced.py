"""Coverage that stops at the doors of slow libraries: Python 3.11 traces every frame, whoever's it is.

Composing takes twice as long where it is traced, and so do compiling, importing and making a model. Only lines of
``sendnn_pipeline`` count: what a library does of its own is left out, and what it calls back of ours is in again.
"""

import functools
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

OURS = "sendnn_pipeline"
# By which a module is imported, and by which its code is run.
IMPORTING = ("importlib._bootstrap", "_find_and_load")
EXECUTING = ("importlib._bootstrap_external", "_LoaderBasics.exec_module")
LEFT_OUT = {
    "hydra._internal.config_loader_impl": (
        "ConfigLoaderImpl.load_configuration",
        "ConfigLoaderImpl.compute_defaults_list",
    ),
    "hydra.core.override_parser.overrides_parser": ("OverridesParser.parse_overrides",),
    "matplotlib.figure": ("Figure.savefig",),
    "omegaconf": (
        "OmegaConf.masked_copy",
        "OmegaConf.missing_keys",
        "OmegaConf.resolve",
        "OmegaConf.structured",
        "OmegaConf.to_container",
    ),
    "sentence_transformers": ("SentenceTransformer.__init__", "SentenceTransformer.encode"),
    "torch._dynamo.convert_frame": ("CatchErrorsWrapper.__call__",),
    "torch._inductor": ("aoti_compile_and_package",),
    "torch.export": ("export",),
    "transformers.generation.utils": ("GenerationMixin.generate",),
    "transformers.modeling_utils": ("PreTrainedModel.from_pretrained", "PreTrainedModel.save_pretrained"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase.from_pretrained",),
    "yaml": ("load",),
}
CALLED_BACK = {
    "sendnn_pipeline.config.option_loader": (
        "OptionLoader._parse_overrides_and_create_caching_repo",
        "defaults_list._create_interpolation_map",
    ),
    "sendnn_pipeline.config.option_source": ("FileConfigSource.load_config",),
}
# Of functions that are replaced, by which they are so only once.
REPLACED = "_of_untraced"

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Untraced:
    """Takes the trace function from calls, and gives it back to calls within them, each in its own thread."""

    def __init__(self) -> None:
        self._taken = threading.local()

    def leave_out(self) -> None:
        """Leave out imports, and the doors of libraries from when they are imported."""
        for module in {*LEFT_OUT, *CALLED_BACK} & sys.modules.keys():
            self._close(module)
        _replace(*IMPORTING, self._untraced)
        _replace(*EXECUTING, self._executing)

    def _close(self, module: str) -> None:
        for path in LEFT_OUT.get(module, ()):
            _replace(module, path, self._untraced)
        for path in CALLED_BACK.get(module, ()):
            _replace(module, path, self._traced)

    def _executing(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """Count our own modules while their code is run."""
        counted = self._traced(execute)

        @functools.wraps(execute)
        def call(loader: Any, module: Any) -> None:
            ours = module.__name__.partition(".")[0] == OURS
            (counted if ours else execute)(loader, module)
            self._close(module.__name__)

        return call

    def _untraced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            outer = sys.gettrace()
            if outer is None:
                return function(*given, **named)
            self._taken.tracer = outer
            sys.settrace(None)
            try:
                return function(*given, **named)
            finally:
                # In this very frame, so that calls and returns are seen in pairs.
                sys.settrace(outer)
                _nothing()

        return call

    def _traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            if sys.gettrace() is not None or (tracer := getattr(self._taken, "tracer", None)) is None:
                return function(*given, **named)
            sys.settrace(tracer)
            _nothing()
            try:
                return function(*given, **named)
            finally:
                sys.settrace(None)

        return call


def _nothing() -> None:
    """Be called: at its first call coverage installs its own form, which frames that run already need."""


def _replace(module: str, path: str, wrap: Wrap) -> None:
    *owners, last = path.split(".")
    owner = functools.reduce(getattr, owners, import_module(module))
    function = vars(owner)[last]
    kind = type(function) if isinstance(function, staticmethod | classmethod) else None
    plain = function.__func__ if kind else function
    if not hasattr(plain, REPLACED):
        wrapped = wrap(plain)
        setattr(wrapped, REPLACED, True)
        setattr(owner, last, kind(wrapped) if kind else wrapped)
