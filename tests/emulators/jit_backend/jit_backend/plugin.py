"""What is registered under ``jit``."""

from collections.abc import Callable
from pathlib import Path

from jit_backend.backend import JitBackend, JitConfig
from sendnn_pipeline.hooks import hookimpl


@hookimpl
def config_paths() -> Path:
    return Path(__file__).parent / "conf"


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    store("backend", "jit", JitConfig)


@hookimpl
def register_compile_backends(register: Callable[[str, type], None]) -> None:
    register("jit", JitBackend)
