"""What a backend tells of the cache that its library keeps: where it is, and what decides whether it serves a run."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sendnn_pipeline.backends.base import Bounds


@dataclass(frozen=True)
class OtherEntry:
    """What a tool other than this one says that it compiled into a library's cache."""

    name: str
    fields: Mapping[str, str]
    """What it says, under names that ``wanted`` has."""
    wanted: Mapping[str, str]
    """What the run needs, of that which such an entry can say."""
    notes: tuple[str, ...] = ()
    """What differs and decides nothing, such as the model's name."""

    @property
    def matches(self) -> bool:
        """Whether it is for this run, as far as it says."""
        return all(self.fields.get(name) == value for name, value in self.wanted.items())


class LibraryCache(Protocol):
    """The cache of a backend's library, files below one folder, where ``limits.artifacts`` is ``own_cache``."""

    @abstractmethod
    def folder(self, environ: Mapping[str, str], default: Path) -> Path | None:
        """Return the folder that ``environ`` names, else the default; None where the user turned the cache off."""

    @abstractmethod
    def variables(self, folder: Path) -> Mapping[str, str]:
        """Return what the library must find at its import to keep its cache in ``folder``."""

    @abstractmethod
    def fields(self, bounds: Bounds, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return what decides, beside Programs, model and versions, whether the library finds what it compiled."""

    def others(self, folder: Path, bounds: Bounds, model: str) -> Sequence[OtherEntry]:
        """Return what other tools' catalogs in ``folder`` say that it has.

        Raises:
            BackendError: a catalog cannot be read.
        """
        return ()
