"""The user's words: flags for Hydra, overrides for us."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser import overrides_parser, types
from hydra.errors import HydraException

from sendnn_pipeline.config.aliases import expand_alias
from sendnn_pipeline.config.options import PRIMARY
from sendnn_pipeline.errors import ConfigError

HYDRA_NAMESPACE = "hydra"


@dataclass(frozen=True)
class Override:
    """One ``key=value``: the key or group it sets, and to what."""

    text: str
    key: str
    value: Any
    sweeps: bool
    expanded: tuple[str, ...] = ()
    """For a sweep over choices or a range: the overrides of its single values."""

    @property
    def of_hydra(self) -> bool:
        """Whether it configures Hydra itself."""
        return self.key.split(".")[0].split("/")[0] == HYDRA_NAMESPACE


@dataclass(frozen=True)
class CommandLine:
    """Flags in the user's order, then overrides in theirs."""

    flags: tuple[str, ...]
    overrides: tuple[Override, ...]
    multirun: bool
    shows_only: bool
    """Whether something is shown and nothing is run."""
    config_dir: str | None = None
    shows_help: bool = False
    """Whether our own help is asked for."""

    def argv(self, inserted: Sequence[str], removed: Sequence[str]) -> list[str]:
        """Return the command line with ``inserted`` before the user's first override, after every flag."""
        remaining = (override.text for override in self.overrides if override.text not in removed)
        return [*self.flags, *inserted, *remaining]


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
            hint = f"quote it: '{_quoted(text)}'" if text.count("=") else "write key=value"
            raise ConfigError(f"{text} is not an override: {str(error).splitlines()[0]}", hint=hint) from None
        override = Override(text, key, plain(parsed.value()), parsed.is_sweep_override(), _expand(parsed))
        if not override.of_hydra and text[0] in "+~":
            raise ConfigError(f"{text} adds or deletes a key", hint="every key exists; write key=value")
        overrides.append(override)
    return tuple(overrides)


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Split ``argv`` into Hydra's flags and overrides.

    Raises:
        ConfigError: a flag is unknown, or a word is not an override.
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
    overrides = parse_overrides(arguments.overrides)
    folder, shows_help = arguments.config_dir, bool(arguments.help)
    return CommandLine(tuple(flags), overrides, bool(arguments.multirun), shows_only, folder, shows_help)


def plain(value: Any) -> Any:
    """Return a parsed value without Hydra's wrapper around quoted text."""
    return value.text if isinstance(value, types.QuotedString) else value


def _expand(override: types.Override) -> tuple[str, ...]:
    if not override.is_sweep_override() or not (override.is_choice_sweep() or override.is_range_sweep()):
        return ()
    key = override.get_key_element()
    return tuple(f"{key}={value}" for value in override.sweep_string_iterator())


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    return f'{key}="{value}"'
