"""The bench target, registered as any plugin's is."""

from typing import TYPE_CHECKING

from sendnn_pipeline.bench.config import BenchConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from sendnn_pipeline.frontend.target import ServeTarget


def _bench() -> "ServeTarget":
    from sendnn_pipeline.bench.target import BenchTarget

    return BenchTarget()


@hookimpl
def register_schemas(store: "Callable[[str, str, type], None]") -> None:
    """Type the options."""
    store("serve", "bench", BenchConfig)


@hookimpl
def register_serve_targets(register: "Callable[[str, Callable[[], ServeTarget]], None]") -> None:
    """Register bench."""
    register("bench", _bench)
