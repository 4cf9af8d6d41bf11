"""Loading plugins: filtered before import, each in isolation, within a time limit."""

import importlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from sendnn_pipeline.config.environment import PLUGIN_TIMEOUT_SECONDS, PLUGINS_ALLOW, PLUGINS_DENY
from sendnn_pipeline.errors import ConfigError, PipelineError, PluginError, nearest
from sendnn_pipeline.hooks.registry import Registry
from sendnn_pipeline.hooks.specs import HOOKS, PROJECT, SPECS

# Rooms that plug in through the same door as everybody else. Named, not imported: they lie above this one.
CONFIG_PLUGIN = "builtin.config"
BUILTINS = {
    CONFIG_PLUGIN: "sendnn_pipeline.hooks.plugin",
    "builtin.backends": "sendnn_pipeline.backends.plugin",
    "builtin.models": "sendnn_pipeline.models.plugin",
    "builtin.observe": "sendnn_pipeline.observe.plugin",
    "builtin.server": "sendnn_pipeline.server.plugin",
    "builtin.bench": "sendnn_pipeline.bench.plugin",
    "builtin.batch": "sendnn_pipeline.batch.plugin",
}
DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class PluginInfo:
    """A plugin that is loaded."""

    name: str
    module: str
    distribution: str
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class PluginFailure:
    """A plugin that is not, and why."""

    name: str
    distribution: str
    reason: str
    trace: str


@dataclass
class Plugins:
    """The plugins of this process."""

    manager: pluggy.PluginManager
    timeout_seconds: float
    loaded: list[PluginInfo] = field(default_factory=list)
    failures: list[PluginFailure] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)

    def each(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Yield every implementation of ``hook`` with its plugin's name, the built-ins first, then by name."""
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        order = {name: place for place, name in enumerate(BUILTINS)}
        for impl in sorted(impls, key=lambda impl: (order.get(impl.plugin_name, len(order)), impl.plugin_name)):
            yield impl.plugin_name, _fewer_arguments(impl)

    def collect(self, hook: str, **arguments: Callable[[str], Any]) -> dict[str, Any]:
        """Call ``hook`` of every plugin by itself; one that fails is a failure, the others go on.

        Args:
            hook: name of the hook.
            arguments: for each argument, what to make it from the plugin's name.

        Raises:
            PipelineError: a conflict between plugins, such as a name with two owners.
        """
        answers = {}
        for name, call in self.each(hook):
            made = {argument: make(name) for argument, make in arguments.items()}
            try:
                with time_limit(self.timeout_seconds):
                    answers[name] = call(**made)
            except PipelineError:
                raise
            except (Exception, SystemExit) as error:
                self.fail(name, f"{hook} failed: {_one_line(error)}")
        return answers

    def registry(self, hook: str, noun: str) -> Registry[Any]:
        """Collect the names that plugins register under ``hook``.

        Raises:
            PluginError: two plugins claim one name.
        """
        registry: Registry[Any] = Registry(noun)
        self.collect(hook, register=registry.registrar)
        return registry

    def add(self, name: str, plugin: object) -> None:
        """Register an object of this process, such as a progress display, as a plugin."""
        self.manager.register(plugin, name=name)
        self.loaded.append(PluginInfo(name, type(plugin).__module__, "sendnn_pipeline", _hooks_of(self.manager, name)))

    def observe(self, hook: str, **arguments: Any) -> None:
        """Call an observer of every plugin; one that fails is recorded and dropped, and the run goes on."""
        for name, call in list(self.each(hook)):
            try:
                with time_limit(self.timeout_seconds):
                    call(**arguments)
            except PipelineError:
                raise
            except (Exception, SystemExit) as error:
                self.fail(name, f"{hook} failed: {_one_line(error)}")

    def fail(self, name: str, reason: str) -> None:
        """Record that a loaded plugin failed, and call it no more."""
        info = next(info for info in self.loaded if info.name == name)
        self.manager.unregister(name=name)
        self.loaded.remove(info)
        self.failures.append(PluginFailure(name, info.distribution, reason, traceback.format_exc()))

    def missing(self) -> str:
        """Return why a name may be unknown: the plugins that failed or are kept out; empty when there are none."""
        lost = [f"plugin {failure.name} failed ({failure.reason})" for failure in self.failures]
        lost += [f"plugin {name} is kept out" for name in self.disabled]
        return f"{'; '.join(lost)}; see `python -m sendnn_pipeline plugins`" if lost else ""


def load_plugins(environ: Mapping[str, str]) -> Plugins:
    """Load the built-ins and every installed plugin that the allow and deny lists let in.

    Raises:
        ConfigError: a list names a plugin that is not installed, or the time limit is no number.
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
        try:
            plugins.manager.check_pending()
        except pluggy.PluginValidationError:
            plugins.manager.unregister(name=entry.name)
            raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if plugins.manager.has_plugin(entry.name):
            plugins.manager.unregister(name=entry.name)
        reason = _misspelled(error) or _one_line(error)
        plugins.failures.append(PluginFailure(entry.name, distribution, reason, traceback.format_exc()))
        return
    plugins.loaded.append(PluginInfo(entry.name, entry.value, distribution, _hooks_of(plugins.manager, entry.name)))


def _misspelled(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, pluggy.PluginValidationError) and "unknown hook" in text:
        hook = text.partition("unknown hook '")[2].partition("'")[0]
        return f"there is no hook {hook}; {nearest(hook, HOOKS)}"
    return ""


def _fewer_arguments(impl: Any) -> Callable[..., Any]:
    """Return a call that hands an implementation the arguments it takes, as pluggy does: specs may grow."""

    def call(**arguments: Any) -> Any:
        return impl.function(*(arguments[name] for name in impl.argnames))

    return call


def _hooks_of(manager: pluggy.PluginManager, name: str) -> tuple[str, ...]:
    callers = manager.get_hookcallers(manager.get_plugin(name)) or []
    return tuple(sorted(caller.name for caller in callers))


def _names(environ: Mapping[str, str], variable: str) -> list[str] | None:
    text = environ.get(variable, "")
    return [name.strip() for name in text.split(",") if name.strip()] if text.strip() else None


def _timeout_seconds(environ: Mapping[str, str]) -> float:
    text = environ.get(PLUGIN_TIMEOUT_SECONDS, "")
    try:
        return float(text) if text else DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        raise ConfigError(f"{PLUGIN_TIMEOUT_SECONDS}={text!r} must be a number of seconds") from None


def _one_line(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called exit({error.code})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a body that runs longer; only the main thread can be interrupted, others run free."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s ({PLUGIN_TIMEOUT_SECONDS})")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
