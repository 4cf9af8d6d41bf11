"""Coverage that stops at the doors of slow libraries: Python 3.11 traces every frame, whoever's it is.

Composing takes twice as long where it is traced, and so does compiling. Only lines of ``sendnn_pipeline`` count: what
a library does of its own is left out, and what it calls back of ours is in again.
"""

import functools
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

COMPOSING = (
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.load_configuration",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.compute_defaults_list",
    "hydra.core.override_parser.overrides_parser:OverridesParser.parse_overrides",
    "omegaconf:OmegaConf.masked_copy",
    "omegaconf:OmegaConf.missing_keys",
    "omegaconf:OmegaConf.resolve",
    "omegaconf:OmegaConf.structured",
    "omegaconf:OmegaConf.to_container",
    "yaml:load",
)
CALLED_BACK = (
    "hydra._internal.defaults_list:_create_interpolation_map",
    "sendnn_pipeline.config.option_loader:OptionLoader._parse_overrides_and_create_caching_repo",
    "sendnn_pipeline.config.option_source:FileConfigSource.load_config",
)
COMPILING = ("torch._inductor:aoti_compile_and_package", "torch.export:export")


class Untraced:
    """Takes the trace function from calls, and gives it back to calls within them, each in its own thread."""

    def __init__(self) -> None:
        self._taken = threading.local()

    def leave_out(self, *names: str) -> None:
        """Leave out functions, written ``module:name``; one that is left out already stays so."""
        for name in names:
            _replace(name, self._untraced)

    def count(self, *names: str) -> None:
        """Count functions that those call."""
        for name in names:
            _replace(name, self._traced)

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


def _replace(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, _, path = name.partition(":")
    *owners, last = path.split(".")
    owner = functools.reduce(getattr, owners, import_module(module))
    function = vars(owner)[last]
    is_static = isinstance(function, staticmethod)
    plain = function.__func__ if is_static else function
    if not hasattr(plain, "__wrapped__"):
        wrapped = wrap(plain)
        setattr(owner, last, staticmethod(wrapped) if is_static else wrapped)
