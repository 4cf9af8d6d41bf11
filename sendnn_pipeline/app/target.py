"""From a serve target's name to the target."""

from typing import TYPE_CHECKING

from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.hooks.registry import check_parts

if TYPE_CHECKING:
    from sendnn_pipeline.frontend.target import ServeTarget
    from sendnn_pipeline.hooks.registry import Registry

# `keys` may be left out.
PARTS = ("ends", "prepare", "run")


def create_target(plugins: Plugins, name: str, *, where: str = "") -> "ServeTarget":
    """Make the serve target of this name.

    Args:
        plugins: that are loaded.
        name: of the target.
        where: what chose it, for errors.

    Raises:
        ConfigError: nothing is registered under the name.
        PluginError: what is registered cannot be made, or is not a target; the message says what it lacks.
    """
    registry = _registry(plugins)
    target: ServeTarget = registry.create(name, where=where, missing=plugins.missing())
    check_parts(registry.describe(name), target, PARTS, "see ServeTarget in frontend/target.py")
    return target


def describe_target(plugins: Plugins, name: str) -> str:
    """Return a target that there is in words, with its plugin."""
    return _registry(plugins).describe(name)


def _registry(plugins: Plugins) -> "Registry[ServeTarget]":
    return plugins.registry("register_serve_targets", "serve target")
