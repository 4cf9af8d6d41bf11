"""Names and what is registered under them; a name has one owner."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sendnn_pipeline.errors import ConfigError, PluginError, nearest
from sendnn_pipeline.hooks.names import is_name
from sendnn_pipeline.hooks.timeout import blame

T = TypeVar("T")


def check_parts(what: str, made: object, parts: Iterable[str], hint: str) -> None:
    """Refuse what lacks a part of its contract.

    Args:
        what: what was made, and its plugin.
        made: it.
        parts: names of its contract's.
        hint: where the contract is.

    Raises:
        PluginError: naming what it lacks.
    """
    lacking = sorted(part for part in parts if not hasattr(made, part))
    if lacking:
        raise PluginError(f"{what} lacks {', '.join(lacking)}", hint=hint)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered factory and the plugin that registered it."""

    factory: Callable[..., T]
    owner: str


class Registry(Generic[T]):
    """What plugins registered under one hook."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.entries: dict[str, Entry[T]] = {}

    def registrar(self, owner: str) -> Callable[[str, Callable[..., T]], None]:
        """Return the ``register(name, factory)`` passed to ``owner``; what it registered before is forgotten."""
        self.entries = {name: entry for name, entry in self.entries.items() if entry.owner != owner}

        def register(name: str, factory: Callable[..., T]) -> None:
            if not is_name(name):
                raise ValueError(f"{self.noun} {name!r} cannot be chosen by that name; a name is a word such as acme")
            if not callable(factory):
                raise TypeError(f"{self.noun} {name} is {factory!r}, which makes nothing; register its class")
            if name in self.entries:
                raise PluginError(
                    f"{self.noun} {name} is registered by {self.entries[name].owner} and {owner}",
                    hint="keep one out with SENDNN_PIPELINE_PLUGINS_DENY",
                )
            self.entries[name] = Entry(factory, owner)

        return register

    def entry(self, name: str, *, where: str = "", missing: str = "") -> Entry[T]:
        """Return what is registered as ``name``.

        Args:
            name: the chosen name.
            where: where it was chosen, for the error.
            missing: why it may be missing, for the error.

        Raises:
            ConfigError: nothing has that name.
        """
        if name not in self.entries:
            raise ConfigError(
                f"no plugin provides {self.noun} {name}", where=where, hint=missing or nearest(name, self.entries)
            )
        return self.entries[name]

    def create(self, name: str, *, where: str = "", missing: str = "") -> T:
        """Make what is registered as ``name``.

        Raises:
            ConfigError: nothing has that name.
            PluginError: its factory failed.
        """
        entry = self.entry(name, where=where, missing=missing)
        with blame(self.describe(name)):
            return entry.factory()

    def describe(self, name: str) -> str:
        """Return what is registered as ``name`` in words, with its plugin."""
        return f"{self.noun} {name} of plugin {self.entries[name].owner}"

    def values(self) -> dict[str, Any]:
        """Make everything registered, by name.

        Raises:
            PluginError: a factory failed.
        """
        return {name: self.create(name) for name in self.entries}
