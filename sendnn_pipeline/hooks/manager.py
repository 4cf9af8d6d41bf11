"""The plugins of a process: whose hooks are called, in which order, and what becomes of one that fails."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pluggy

from sendnn_pipeline.errors import PipelineError, PluginError
from sendnn_pipeline.hooks.registry import Registry
from sendnn_pipeline.hooks.timeout import located, one_line, time_limit

T = TypeVar("T")

# Rooms that plug in through the same door as everybody else. Named, not imported: they lie above this one.
CONFIG_PLUGIN = "builtin.config"
BUILTINS = {
    CONFIG_PLUGIN: "sendnn_pipeline.hooks.plugin",
    "builtin.backends": "sendnn_pipeline.backends.plugin",
    "builtin.models": "sendnn_pipeline.models.plugin",
    "builtin.multimodal": "sendnn_pipeline.multimodal.plugin",
    "builtin.generation": "sendnn_pipeline.generation.plugin",
    "builtin.pooling": "sendnn_pipeline.pooling.plugin",
    "builtin.observe": "sendnn_pipeline.observe.plugin",
    "builtin.server": "sendnn_pipeline.server.plugin",
    "builtin.bench": "sendnn_pipeline.bench.plugin",
    "builtin.batch": "sendnn_pipeline.batch.plugin",
}


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


@dataclass(frozen=True)
class PluginProblem:
    """What of a loaded plugin cannot be used; the rest of it goes on."""

    plugin: str
    message: str


@dataclass
class Plugins:
    """The plugins of this process."""

    manager: pluggy.PluginManager
    timeout_seconds: float
    loaded: list[PluginInfo] = field(default_factory=list)
    failures: list[PluginFailure] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    on_failure: Callable[[PluginFailure], None] = lambda failure: None
    """Called with a loaded plugin that fails."""

    def names(self, hook: str) -> list[str]:
        """Return the plugins that implement ``hook`` in calling order: the built-ins first, then by name.

        ``tryfirst`` and ``trylast`` count; wrappers are called around each of them.
        """
        order = {name: index for index, name in enumerate(BUILTINS)}
        impls = [impl for impl in self._impls(hook) if not _wraps(impl)]

        def key(impl: Any) -> tuple[bool, bool, int, str]:
            return not impl.tryfirst, impl.trylast, order.get(impl.plugin_name, len(order)), impl.plugin_name

        return [impl.plugin_name for impl in sorted(impls, key=key)]

    def collect(self, hook: str, **arguments: Callable[[str], Any]) -> dict[str, Any]:
        """Call ``hook`` of every plugin by itself; one that fails is a failure, the others go on.

        Where a wrapper is at fault, the plugin that it wraps is called again without it.

        Args:
            hook: name of the hook.
            arguments: for each argument, what to make it from the plugin's name.

        Raises:
            PipelineError: a conflict between plugins, such as a name with two owners.
        """
        answers = {}
        for name in self.names(hook):
            culprit: str | None = ""
            while culprit is not None and self.manager.has_plugin(name):
                made = {argument: make(name) for argument, make in arguments.items()}
                answer, culprit = self._call(hook, name, made)
                if answer is not None:
                    answers[name] = answer
        return answers

    def observe(self, hook: str, name: str, **arguments: Any) -> PluginFailure | None:
        """Call an observer of one plugin, once; return the failure of one that is dropped, and the run goes on."""
        before = len(self.failures)
        try:
            self._call(hook, name, arguments)
        except PipelineError as error:
            # Observers have no say in the run.
            self.fail(self._culprit(hook, error) or name, f"{hook} failed: {one_line(error)}")
        return self.failures[-1] if len(self.failures) > before else None

    def _call(self, hook: str, name: str, arguments: Mapping[str, Any]) -> tuple[Any, str | None]:
        """Call ``hook`` of one plugin, by pluggy's own machinery, with every wrapper around it.

        Returns:
            The answer, and the plugin that failed, which is called no more.

        Raises:
            PipelineError: what the plugin, or a wrapper, refuses.
        """
        involved = {name} | {impl.plugin_name for impl in self._impls(hook) if _wraps(impl)}
        others = [plugin for other, plugin in self.manager.list_name_plugin() if other not in involved and plugin]
        try:
            with time_limit(self.timeout_seconds):
                answers = self.manager.subset_hook_caller(hook, others)(**arguments)
        except PipelineError:
            raise
        except (Exception, SystemExit) as error:
            culprit = self._culprit(hook, error) or name
            self.fail(culprit, f"{hook} failed: {one_line(error)}")
            return None, culprit
        return (answers[0] if answers else None), None

    def _impls(self, hook: str) -> list[Any]:
        return list(getattr(self.manager.hook, hook).get_hookimpls())

    def _culprit(self, hook: str, error: BaseException) -> str | None:
        """Return whose implementation the error came out of, the innermost first."""
        owners = {impl.function.__code__: impl.plugin_name for impl in self._impls(hook)}
        frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        return next((owners[code] for code in reversed(frames) if code in owners), None)

    def registry(self, hook: str, noun: str) -> Registry[Any]:
        """Collect the names that plugins register under ``hook``.

        Raises:
            PluginError: two plugins claim one name.
        """
        registry: Registry[Any] = Registry(noun)
        self.collect(hook, register=registry.registrar)
        return registry

    def attempt(self, name: str, what: str, call: Callable[[], T]) -> T | None:
        """Call what a plugin registered for a run that did not choose it; one that fails is dropped, others go on.

        Args:
            name: of the plugin.
            what: that is called, for the reason.
            call: without arguments.

        Raises:
            PipelineError: what the plugin refuses.
        """
        try:
            with time_limit(self.timeout_seconds):
                return call()
        except PluginError as error:
            self.fail(name, error.message)
            return None
        except PipelineError:
            raise
        except (Exception, SystemExit) as error:
            self.fail(name, f"{what} failed: {located(error)}")
            return None

    def fail(self, name: str, reason: str) -> None:
        """Record that a loaded plugin failed, and call it no more."""
        info = next(info for info in self.loaded if info.name == name)
        self.manager.unregister(name=name)
        self.loaded.remove(info)
        failure = PluginFailure(name, info.distribution, reason, traceback.format_exc())
        self.failures.append(failure)
        self.on_failure(failure)

    def missing(self) -> str:
        """Return why a name may be unknown: the plugins that failed or are disabled; empty when there are none."""
        lost = [f"plugin {failure.name} failed ({failure.reason})" for failure in self.failures]
        lost += [f"plugin {name} is disabled" for name in self.disabled]
        return f"{'; '.join(lost)}; see `python -m sendnn_pipeline plugins`" if lost else ""


def _wraps(impl: Any) -> bool:
    return bool(impl.wrapper or impl.hookwrapper)
