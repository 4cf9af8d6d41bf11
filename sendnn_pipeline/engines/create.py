"""From an engine's name to the engine."""

from functools import partial

from sendnn_pipeline.engines.base import Engine, UsesPlugins
from sendnn_pipeline.engines.guard import guard
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.manager import BUILTINS, Plugins
from sendnn_pipeline.hooks.timeout import blame
from sendnn_pipeline.models.facts import ModelFacts


def create_engine(plugins: Plugins, name: str, *, where: str = "") -> Engine:
    """Make the engine of this name.

    Args:
        plugins: that are loaded.
        name: of the engine.
        where: what chose it, for errors.

    Raises:
        ConfigError: nothing is registered under the name.
        PluginError: what is registered cannot be made, or is not an engine; the message says what it lacks.
    """
    registry = plugins.registry("register_engines", "engine")
    engine: Engine = registry.create(name, where=where, missing=plugins.missing())
    what, owner = registry.describe(name), registry.entries[name].owner
    guarded = guard(engine, what, name)
    if isinstance(engine, UsesPlugins):
        with blame(what):
            engine.use_plugins(plugins)
    # What is wrong with ours is a crash, with its traceback.
    return engine if owner in BUILTINS else guarded


def choose_engine(plugins: Plugins, model: ModelFacts) -> tuple[str, str]:
    """Return the engine that claims the model, and its reason.

    Raises:
        ConfigError: none does, or several do.
    """
    registry = plugins.registry("register_engines", "engine")
    claims = {
        # The run did not choose the one that fails.
        name: plugins.attempt(entry.owner, f"engine {name}", partial(_claim, plugins, name, model))
        for name, entry in registry.entries.items()
    }
    reasons = {name: reason for name, reason in claims.items() if reason}
    if len(reasons) > 1:
        raise ConfigError(
            f"{model.architecture} is claimed by the engines {' and '.join(sorted(reasons))}",
            hint=f"choose one: {' or '.join(f'engine={name}' for name in sorted(reasons))}",
        )
    if not reasons:
        raise ConfigError(
            f"no engine here runs {model.architecture} by itself",
            hint=f"choose one with engine=: {', '.join(sorted(registry.entries))}",
        )
    return next(iter(reasons.items()))


def _claim(plugins: Plugins, name: str, model: ModelFacts) -> str | None:
    return create_engine(plugins, name).claim(model)
