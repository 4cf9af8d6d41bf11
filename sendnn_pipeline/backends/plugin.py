"""The built-in compile backends, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.backends.inductor import InductorBackend, InductorConfig
from sendnn_pipeline.backends.sendnn import SendnnBackend, SendnnConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.backends.base import CompileBackend
    from sendnn_pipeline.config.resolve import Run


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the options of inductor and sendnn."""
    store("backend", "inductor", InductorConfig)
    store("backend", "sendnn", SendnnConfig)


@hookimpl
def check_config(run: "Run") -> list[str]:
    """Refuse frozen Programs that cannot fit: each holds the weights once more."""
    if run.config.backend.name != InductorBackend.name or not InductorBackend().embeds_weights(run):
        return []
    weight_bytes = sum(file.stat().st_size for file in run.model.weight_files)
    needed, available = weight_bytes * (1 + len(run.shapes)), psutil.virtual_memory().available
    if needed <= available:
        return []
    return [
        f"frozen Programs keep {1 + len(run.shapes)} copies of the weights, {needed / 2**30:.1f} GiB, and "
        f"{available / 2**30:.1f} GiB are free; use fewer warmup shapes or backend.freezing=false"
    ]


@hookimpl
def register_compile_backends(register: "Callable[[str, Callable[[], CompileBackend]], None]") -> None:
    """Register eager, inductor and sendnn."""
    register("eager", EagerBackend)
    register("inductor", InductorBackend)
    register("sendnn", SendnnBackend)
