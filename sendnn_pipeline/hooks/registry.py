"""Names and the factories behind them; a name has one owner."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sendnn_pipeline.errors import ConfigError, PluginError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered factory and the plugin that registered it."""

    factory: Callable[[], T]
    owner: str


class Registry(Generic[T]):
    """What plugins registered under one hook."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.entries: dict[str, Entry[T]] = {}

    def registrar(self, owner: str) -> Callable[[str, Callable[[], T]], None]:
        """Return the ``register(name, factory)`` that ``owner`` is given."""

        def register(name: str, factory: Callable[[], T]) -> None:
            if name in self.entries:
                raise PluginError(
                    f"{self.noun} {name} is claimed by {self.entries[name].owner} and {owner}",
                    hint="keep one out with SENDNN_PIPELINE_PLUGINS_DENY",
                )
            self.entries[name] = Entry(factory, owner)

        return register

    def create(self, name: str, *, where: str = "", missing: str = "") -> T:
        """Build what is registered as ``name``.

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
        return self.entries[name].factory()

    def values(self) -> dict[str, Any]:
        """Build everything registered, by name."""
        return {name: entry.factory() for name, entry in self.entries.items()}
