"""Loading plugins: filtered before they are imported, each in isolation, within a time limit."""

import importlib
import inspect
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

import pluggy

from sendnn_pipeline.config.environment import PLUGIN_TIMEOUT_SECONDS, PLUGINS_ALLOW, PLUGINS_DENY
from sendnn_pipeline.errors import ConfigError, PluginError, nearest
from sendnn_pipeline.hooks.manager import BUILTINS, PluginFailure, PluginInfo, Plugins
from sendnn_pipeline.hooks.specs import HOOKS, PROJECT, SPECS
from sendnn_pipeline.hooks.timeout import one_line, time_limit

DEFAULT_TIMEOUT_SECONDS = 10.0
MAX_TIMEOUT_SECONDS = 3600.0


def load_plugins(environ: Mapping[str, str]) -> Plugins:
    """Load the built-ins and every installed plugin that the allow and deny lists let in.

    Raises:
        ConfigError: a list names a plugin that is not installed, or the time limit is not a number.
    """
    plugins = Plugins(pluggy.PluginManager(PROJECT), _timeout_seconds(environ))
    for spec in SPECS:
        plugins.manager.add_hookspecs(spec)
    for name, module in BUILTINS.items():
        plugins.manager.register(importlib.import_module(module), name=name)
        plugins.loaded.append(PluginInfo(name, module, "sendnn_pipeline", _hooks_of(plugins.manager, name)))
    found = sorted(entry_points(group=PROJECT), key=lambda entry: entry.name)
    allow, deny = _names(environ, PLUGINS_ALLOW), _names(environ, PLUGINS_DENY)
    for variable, names in ((PLUGINS_ALLOW, allow), (PLUGINS_DENY, deny)):
        unknown = next((name for name in names or () if name not in {entry.name for entry in found}), None)
        if unknown:
            raise ConfigError(
                f"{variable} names plugin {unknown}, which is not installed",
                hint=nearest(unknown, [entry.name for entry in found]),
            )
    for entry in found:
        if (allow is not None and entry.name not in allow) or entry.name in (deny or ()):
            plugins.disabled.append(entry.name)
        else:
            _load(plugins, entry, [other for other in found if other.name == entry.name])
    return plugins


def _load(plugins: Plugins, entry: EntryPoint, namesakes: list[EntryPoint]) -> None:
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    try:
        if len(namesakes) > 1 or entry.name in BUILTINS:
            owners = sorted(
                {other.dist.name for other in namesakes if other.dist} | {distribution.split(maxsplit=1)[0]}
            )
            raise PluginError(f"plugin name {entry.name} is taken by {' and '.join(owners)}", hint="uninstall one")
        with time_limit(plugins.timeout_seconds):
            module = entry.load()
            plugins.manager.register(module, name=entry.name)
        plugins.manager.check_pending()
        hooks = _hooks_of(plugins.manager, entry.name)
        if not hooks:
            raise PluginError(
                f"its entry point {entry.value} is {_kind(module)} that implements no hook",
                hint="name the module whose functions are marked @hookimpl",
            )
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if plugins.manager.has_plugin(entry.name):
            plugins.manager.unregister(name=entry.name)
        reason = _misspelled(error) or (str(error) if isinstance(error, PluginError) else one_line(error))
        plugins.failures.append(PluginFailure(entry.name, distribution, reason, traceback.format_exc()))
        return
    plugins.loaded.append(PluginInfo(entry.name, entry.value, distribution, hooks))


def _kind(found: object) -> str:
    return "a module" if inspect.ismodule(found) else f"a {type(found).__name__}"


def _misspelled(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, pluggy.PluginValidationError) and "unknown hook" in text:
        hook = text.partition("unknown hook '")[2].partition("'")[0]
        return f"there is no hook {hook}; {nearest(hook, HOOKS)}"
    return ""


def _hooks_of(manager: pluggy.PluginManager, name: str) -> tuple[str, ...]:
    callers = manager.get_hookcallers(manager.get_plugin(name)) or []
    return tuple(sorted(caller.name for caller in callers))


def _names(environ: Mapping[str, str], variable: str) -> list[str] | None:
    text = environ.get(variable, "")
    return [name.strip() for name in text.split(",") if name.strip()] if text.strip() else None


def _timeout_seconds(environ: Mapping[str, str]) -> float:
    text = environ.get(PLUGIN_TIMEOUT_SECONDS, "")
    try:
        seconds = float(text) if text else DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ConfigError(
            f"{PLUGIN_TIMEOUT_SECONDS}={text!r} must be a number of seconds, more than 0 and at most "
            f"{MAX_TIMEOUT_SECONDS:g}"
        )
    return seconds
