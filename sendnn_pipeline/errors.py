"""What can go wrong, as one line a user can act on: what, where it was set, what to do."""

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class PipelineError(Exception):
    """A failure that is explained to the user, never shown as a traceback.

    Args:
        message: what is wrong, naming the field or file.
        hint: what to do about it.
        where: where the value came from, e.g. ``SENDNN_INFERENCE_NUM_CPUS`` or ``command line``.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        origin = f" (set by {self.where})" if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{self.message}{origin}{hint}".split())


class ConfigError(PipelineError):
    """The description of the run is wrong; nothing was started."""

    exit_code = 2


class ModelError(PipelineError):
    """A model cannot be fetched, read or used."""


class BackendError(PipelineError):
    """A compile backend is missing or failed."""


class ArtifactError(PipelineError):
    """A compiled Program cannot be stored, or must not be used."""


class PluginError(PipelineError):
    """A plugin failed, or two plugins claim one name."""


class EngineError(PipelineError):
    """The engine process failed or died."""


class ServeError(PipelineError):
    """The model cannot be offered: a port in use, an unreadable key file."""


def nearest(word: str, known: "Iterable[str]") -> str:
    """Return a "did you mean" hint for ``word``, or the known words when none is close."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 16 else ""
