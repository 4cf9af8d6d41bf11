"""The built-in compile backends, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.backends.inductor import InductorBackend, InductorConfig
from sendnn_pipeline.backends.sendnn import SendnnBackend
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.backends.base import CompileBackend


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the options of inductor."""
    store("backend", "inductor", InductorConfig)


@hookimpl
def register_compile_backends(register: "Callable[[str, Callable[[], CompileBackend]], None]") -> None:
    """Register eager, inductor and sendnn."""
    register("eager", EagerBackend)
    register("inductor", InductorBackend)
    register("sendnn", SendnnBackend)
