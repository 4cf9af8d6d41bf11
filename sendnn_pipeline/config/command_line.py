"""The user's words: overrides for us, and what Hydra is to read of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser import overrides_parser, types
from hydra.errors import HydraException

from sendnn_pipeline.config.aliases import expand_alias
from sendnn_pipeline.config.flags import Flags, read_flags
from sendnn_pipeline.errors import ConfigError

HYDRA_NAMESPACE = "hydra"
BARE_WORD = "write key=value; a tool's name is the first word, and --help lists all of them"


@dataclass(frozen=True)
class Override:
    """One ``key=value``: the key or group it sets, and to what."""

    text: str
    """As it was typed, its key in full."""
    key: str
    value: Any
    sweeps: bool
    expanded: tuple[str, ...] = ()
    """For a sweep over choices or a range: the overrides of its single values."""
    exact: str = ""
    """What Hydra is to read instead of ``text``, where that would lose characters; empty where it would not."""

    @property
    def word(self) -> str:
        """What Hydra reads."""
        return self.exact or self.text

    @property
    def of_hydra(self) -> bool:
        """Whether it configures Hydra itself."""
        return self.key.split(".")[0].split("/")[0] == HYDRA_NAMESPACE


@dataclass(frozen=True)
class CommandLine:
    """Flags and overrides."""

    flags: Flags
    overrides: tuple[Override, ...]
    names: tuple[str, ...] = ()
    """Words without ``=``, where they may stand."""

    def argv(self, inserted: Sequence[str], removed: Sequence[str]) -> list[str]:
        """Return the command line for Hydra, with ``inserted`` before the user's first override, after every flag."""
        remaining = (override.word for override in self.overrides if override.text not in removed)
        return [*self.flags.for_hydra, *inserted, *remaining]


def parse_overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """Read overrides; short forms are written in full.

    Raises:
        ConfigError: one is not ``key=value``, or adds or deletes keys.
    """
    parser = overrides_parser.OverridesParser.create()
    overrides = []
    for text in map(expand_alias, texts):
        try:
            parsed: types.Override = parser.parse_overrides([text])[0]
            key = parsed.key_or_group
            if not key:
                raise HydraException("it names no key")
        except HydraException as error:
            hint = f"quote it: '{_quoted(text)}'" if text.count("=") else _hint_of_bare(text)
            raise ConfigError(f"{text} is not an override: {_reason(text, error)}", hint=hint) from None
        override = Override(text, key, plain(parsed.value()), parsed.is_sweep_override(), expand(parsed))
        if not override.of_hydra and text[0] in "+~":
            raise ConfigError(f"{text} adds or deletes a key", hint="every key exists; write key=value")
        overrides.append(override)
    return tuple(overrides)


def parse_command_line(argv: Sequence[str], *, takes_names: bool = False) -> CommandLine:
    """Split ``argv`` into flags and overrides, and names where those are taken.

    Raises:
        ConfigError: a flag's value is wrong, or a word is not an override.
    """
    flags = read_flags(argv)
    if flags.of_hydra or flags.unknown:
        return CommandLine(flags, ())
    names = tuple(word for word in flags.words if takes_names and "=" not in word)
    return CommandLine(flags, parse_overrides([word for word in flags.words if word not in names]), names)


def plain(value: Any) -> Any:
    """Return a parsed value without Hydra's wrapper around quoted text."""
    return value.text if isinstance(value, types.QuotedString) else value


def expand(override: types.Override) -> tuple[str, ...]:
    """Return the overrides of a sweep's single values; none where only its sweeper knows them."""
    known = (types.ValueType.SIMPLE_CHOICE_SWEEP, types.ValueType.CHOICE_SWEEP, types.ValueType.RANGE_SWEEP)
    if override.value_type not in known:
        return ()
    key = override.get_key_element()
    return tuple(f"{key}={value}" for value in override.sweep_string_iterator())


def _reason(text: str, error: HydraException) -> str:
    """Return why a word cannot be read; the parser names its own classes where it has no words."""
    if "=" not in text:
        return "it has no ="
    first = str(error).splitlines()[0]
    return "it has characters that only stand in quotes" if first.startswith("LexerNoViableAlt") else first


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    return f'{key}="{value}"'


def _hint_of_bare(text: str) -> str:
    return f"a model is named by model=local model.path={text}" if "/" in text else BARE_WORD
