"""The user's words: flags for Hydra, overrides for us."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from sendnn_pipeline.config.options import PRIMARY
from sendnn_pipeline.errors import ConfigError

HYDRA_NAMESPACE = "hydra"


@dataclass(frozen=True)
class Word:
    """One override word: the key or group it sets, and to what."""

    text: str
    key: str
    value: Any
    sweeps: bool
    expanded: tuple[str, ...] = ()
    """For a sweep over choices or a range: the words of its single values."""


@dataclass(frozen=True)
class CommandLine:
    """Flags in the user's order, then override words in theirs."""

    flags: tuple[str, ...]
    words: tuple[Word, ...]
    multirun: bool
    shows_only: bool
    config_dir: str | None = None
    helps: bool = False
    """Whether our own help is asked for."""

    def argv(self, inserted: Sequence[str], removed: Sequence[str]) -> list[str]:
        """Return the command line with ``inserted`` before the user's first word, after every flag."""
        return [*self.flags, *inserted, *(word.text for word in self.words if word.text not in removed)]


def parse_words(texts: Sequence[str]) -> tuple[Word, ...]:
    """Read override words.

    Raises:
        ConfigError: a word is no ``key=value``, or adds or deletes keys.
    """
    parser = OverridesParser.create()
    words = []
    for text in texts:
        try:
            override: Override = parser.parse_overrides([text])[0]
        except HydraException as error:
            hint = f"quote it: '{_quoted(text)}'" if text.count("=") else "write key=value"
            raise ConfigError(f"{text} is no override: {str(error).splitlines()[0]}", hint=hint) from None
        key = override.key_or_group
        ours = key.split(".")[0].split("/")[0] != HYDRA_NAMESPACE
        if ours and text[0] in "+~":
            raise ConfigError(f"{text} adds or deletes a key", hint="every key exists; write key=value")
        words.append(Word(text, key, plain(override.value()), override.is_sweep_override(), _expanded(override)))
    return tuple(words)


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Split ``argv`` into Hydra's flags and override words.

    Raises:
        ConfigError: a flag is unknown, or a word is no override.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(message, hint="--help lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(list(argv))
    remaining = list(arguments.overrides)
    if arguments.config_name not in (None, PRIMARY) or arguments.config_path:
        raise ConfigError(
            "--config-name and --config-path are fixed",
            hint="put FOLDER/profile/NAME.yaml and use --config-dir FOLDER profile=NAME",
        )
    flags = []
    for token in argv:
        if remaining and token == remaining[0]:
            remaining.pop(0)
        else:
            flags.append(token)
    shows_only = bool(arguments.help or arguments.hydra_help or arguments.cfg or arguments.info)
    words = parse_words(arguments.overrides)
    folder, helps = arguments.config_dir, bool(arguments.help)
    return CommandLine(tuple(flags), words, bool(arguments.multirun), shows_only, folder, helps)


def plain(value: Any) -> Any:
    """Return a parsed value without Hydra's wrapper around quoted text."""
    return value.text if isinstance(value, QuotedString) else value


def _expanded(override: Override) -> tuple[str, ...]:
    if not override.is_sweep_override() or not (override.is_choice_sweep() or override.is_range_sweep()):
        return ()
    key = override.get_key_element()
    return tuple(f"{key}={value}" for value in override.sweep_string_iterator())


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    return f'{key}="{value}"'
