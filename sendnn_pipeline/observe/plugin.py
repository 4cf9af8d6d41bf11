"""The built-in collectors behind ``/metrics``."""

from typing import TYPE_CHECKING

from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@hookimpl
def register_metrics(registry: "CollectorRegistry") -> None:
    """Add what the Python process itself says."""
    from prometheus_client import PlatformCollector, ProcessCollector

    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
