"""A run on its way: every value, which layer set it and why, until it is frozen."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from sendnn_pipeline.config.accepted import accepted
from sendnn_pipeline.config.options import PROFILE
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.config.schemas import keys_of
from sendnn_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from sendnn_pipeline.models.facts import ModelFacts


class Layer(IntEnum):
    """Who set a value; a higher one wins. The last two replace an ``auto``."""

    DEFAULT = 0
    CONF = 1
    KNOWN = 2
    PROFILE = 3
    ENV = 4
    COMMAND_LINE = 5
    MODEL = 6
    CHOSEN = 7

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


# From here on it is the user's own word.
FIRST_OF_USER = Layer.PROFILE


@dataclass(frozen=True)
class Origin:
    """What one layer set a key to."""

    layer: Layer
    where: str
    """A file, a variable, an override, or the reason of a choice."""
    value: Any
    option: str = ""
    """The option whose file it is, such as ``warmup=short``."""

    @property
    def names_key(self) -> bool:
        """Whether the key itself was named, by the user or in a profile, rather than an option whose file has it."""
        return not self.option or self.option.startswith(f"{PROFILE}=")


Origins = Mapping[str, tuple[Origin, ...]]
"""By key and group, what each layer set; what holds comes first."""


@dataclass
class Draft:
    """Values by dotted key, in the types of the schemas of the options that are chosen."""

    values: dict[str, Any]
    """Nested by group."""
    schemas: Mapping[str, type]
    """The dataclass of each group."""
    origins: dict[str, tuple[Origin, ...]]
    choices: Mapping[str, str]
    """The option that is chosen in each group."""
    notices: list[str] = field(default_factory=list)
    """Lines for the user."""
    unused: dict[str, str] = field(default_factory=dict)
    """Why keys have no effect in this run."""
    threads: int = 0
    """Of each engine process, as planned; 0 where they are left as they are."""
    cache_dir: Path = Path()
    timing_folders: tuple[Path, ...] = ()
    """Where times of steps are recorded."""
    facts: "ModelFacts | None" = None
    """The model's, once it is read."""

    @property
    def model(self) -> "ModelFacts":
        """The facts of the model."""
        assert self.facts is not None, "the model is not read yet"
        return self.facts

    def __getitem__(self, key: str) -> Any:
        value: Any = self.values
        for name in key.split("."):
            value = value[name]
        return value

    def __contains__(self, key: str) -> bool:
        try:
            self[key]
        except (KeyError, TypeError):
            return False
        return True

    def put(self, key: str, value: Any, layer: Layer, reason: str) -> None:
        """Set a value; what was set before stays on record under it."""
        *parents, name = key.split(".")
        node = self.values
        for parent in parents:
            node = node[parent]
        node[name] = value
        self.origins[key] = (Origin(layer, reason, value), *self.origins.get(key, ()))

    def layer(self, key: str) -> Layer:
        """Return the layer that set what holds."""
        origins = self.origins.get(key, ())
        return origins[0].layer if origins else Layer.DEFAULT

    def rank(self, key: str) -> tuple[Layer, bool]:
        """Return how strong the word is that set what holds: its layer, and whether it named the key itself."""
        origins = self.origins.get(key, ())
        return (origins[0].layer, origins[0].names_key) if origins else (Layer.DEFAULT, False)

    def where(self, key: str) -> str:
        """Return what set it; empty for a schema default."""
        origins = self.origins.get(key, ())
        return origins[0].where if origins and origins[0].layer > Layer.DEFAULT else ""

    def set_by_user(self, key: str) -> bool:
        """Return whether profile, environment or command line set it, or chose the option that does."""
        return any(_of_user(origin) for origin in self.origins.get(key, ())[:1])

    def named_keys(self) -> list[str]:
        """Return the keys whose value is the user's own word, not that of an option the user chose."""
        tops = ((key, found[0]) for key, found in self.origins.items() if found)
        return [key for key, top in tops if _of_user(top) and top.names_key]

    def note(self, line: str) -> None:
        """Add a line for the user."""
        self.notices.append(line)

    def note_unused(self, key: str, reason: str) -> None:
        """Record that a key has no effect in this run, and note it if the user named it."""
        self.unused[key] = reason
        if key in self.named_keys():
            self.note(f"{key} (set by {self.where(key)}) is not used by this run: {reason}")

    def config(self) -> RunConfig:
        """Return the typed configuration.

        Raises:
            ConfigError: a value is out of its bounds or of another type; the message names key and origin.
        """
        return RunConfig(**{entry.name: self.group(entry.name) for entry in fields(RunConfig)})

    def group(self, name: str) -> Any:
        """Return one group, or one key without a group, of the typed configuration.

        Raises:
            ConfigError: as above.
        """
        schema: Any = self.schemas.get(name) or get_type_hints(RunConfig, include_extras=True)[name]
        try:
            return msgspec.convert(deepcopy(self.values[name]), schema)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            key = name + path.rstrip("`").partition("[")[0]
            accepts = accepted(keys_of(schema, name).get(key), message)
            where = self.where(key) or next(filter(None, map(self.where, self._below(key))), "")
            raise ConfigError(f"{key}={write_value(self[key])} must be {accepts}", where=where) from None

    def _below(self, key: str) -> list[str]:
        """Return the entries of a mapping that somebody set."""
        return [name for name in self.origins if name.startswith(f"{key}.")]


def write_value(value: Any) -> str:
    """Write a value as users do."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(write_value, value))}]" if isinstance(value, list | tuple) else str(value)


def _of_user(origin: Origin) -> bool:
    return FIRST_OF_USER <= origin.layer <= Layer.COMMAND_LINE
