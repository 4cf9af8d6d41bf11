"""The built-in model sources."""

from collections.abc import Callable

from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.models.packages import PackageSource
from sendnn_pipeline.models.sources import FolderSource, HubSource, ModelSource


@hookimpl
def register_model_sources(register: Callable[[str, Callable[[], ModelSource]], None]) -> None:
    """Register folder, hub and package."""
    register("folder", FolderSource)
    register("hub", HubSource)
    register("package", PackageSource)
