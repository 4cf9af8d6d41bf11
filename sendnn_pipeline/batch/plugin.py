"""The batch target, registered as any plugin's is."""

from typing import TYPE_CHECKING

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from sendnn_pipeline.frontend.target import ServeTarget


def _batch() -> "ServeTarget":
    from sendnn_pipeline.batch.target import BatchTarget

    return BatchTarget()


@hookimpl
def register_schemas(store: "Callable[[str, str, type], None]") -> None:
    """Type the options."""
    store("serve", "batch", BatchConfig)


@hookimpl
def register_serve_targets(register: "Callable[[str, Callable[[], ServeTarget]], None]") -> None:
    """Register batch."""
    register("batch", _batch)
