"""Our own ``conf/``, through the same door as every plugin's."""

from pathlib import Path

from sendnn_pipeline.config.options import own_conf_dir
from sendnn_pipeline.hooks.specs import hookimpl


@hookimpl
def config_paths() -> Path:
    """Return the folder of the built-in options."""
    return own_conf_dir()
