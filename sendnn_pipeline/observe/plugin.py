"""The built-in collectors behind ``/metrics``."""

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from sendnn_pipeline.hooks import hookimpl


@hookimpl
def register_metrics(registry: CollectorRegistry) -> None:
    """Add what the Python process itself says."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
