"""What can go wrong, as one line a user can act on: what, where it was set, what to do."""

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# Of difflib's measure. Below it lie words that have some letters in common by chance.
MIN_LIKENESS = 0.7


class PipelineError(Exception):
    """A failure that is explained to the user, never shown as a traceback.

    Args:
        message: what is wrong, naming the field or file.
        hint: what to do about it.
        where: where the value came from, e.g. ``SENDNN_INFERENCE_NUM_CPUS`` or ``command line``.
    """

    exit_code = 1
    details: tuple[str, ...] = ()
    """Lines of a table to show below it."""
    is_logged = False
    """Whether the log has it already."""
    is_final = False
    """Whether an engine that fails of it is not worth another start."""

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

    def __init__(self, message: str, *, hint: str = "", where: str = "", key: str = "") -> None:
        """Of one key, name it: whoever knows what set it adds where."""
        super().__init__(message, hint=hint, where=where)
        self.key = key


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


class NobodyThereError(EngineError):
    """Node 0 was waited for as long as the user wants, and is not there."""

    is_final = True


class ServeError(PipelineError):
    """The model cannot be offered: a port in use, an unreadable key file."""


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, of a noun that takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nearest(word: str, known: "Iterable[str]") -> str:
    """Return a "did you mean" hint for ``word``, or the known words when none is close and they are few.

    What two names begin with in common, such as the group of a key, makes them no more alike. A word that is the
    last part of one key is that key.
    """
    names = sorted(known)
    ends = [name for name in names if name.rpartition(".")[2] == word.rpartition(".")[2] and "." in name]
    close = ends if len(ends) == 1 else sorted(names, key=lambda name: -_likeness(word, name))[:1]
    if close and (close == ends or _likeness(word, close[0]) >= MIN_LIKENESS):
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 16 else ""


def _likeness(word: str, name: str) -> float:
    differ = next((at for at, pair in enumerate(zip(word, name, strict=False)) if len(set(pair)) > 1), 0)
    start = max(word.rfind(mark, 0, differ) for mark in "._/") + 1
    whole, rest = (SequenceMatcher(None, word[at:], name[at:]) for at in (0, start))
    matching = sum(block.size for block in whole.get_matching_blocks())
    # One letter that is another, or is missing, counts little whatever the length of the part it is in.
    return whole.ratio() if len(word) + len(name) - 2 * matching <= 2 else rest.ratio()


class RanksApartError(EngineError):
    """Ranks that computed a step together are no longer at one place: none of them can go on."""
