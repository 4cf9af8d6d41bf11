"""The plugin contract: ``from sendnn_pipeline.hooks import hookimpl``."""

from sendnn_pipeline.hooks.specs import hookimpl

__all__ = ["hookimpl"]
