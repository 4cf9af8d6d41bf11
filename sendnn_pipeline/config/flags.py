"""The flags of the command line, which stand before, between or behind its words."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from sendnn_pipeline.errors import ConfigError

# What Hydra shows of the configuration.
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
FIXED = "--config-name and --config-path are fixed"
SHELLS = ("bash", "fish", "zsh")
COMPLETION = re.compile(rf"(?:install|uninstall|query)=(?:{'|'.join(SHELLS)})")
OWN_FOLDER = "put FOLDER/profile/NAME.yaml and use --config-dir FOLDER profile=NAME"


@dataclass(frozen=True)
class Flags:
    """The flags that are set, and the words that are none."""

    words: tuple[str, ...]
    """In the user's order."""
    for_hydra: tuple[str, ...]
    """Each one in full, and one word, so that it never takes the next for its value."""
    multirun: bool
    shows_only: bool
    """Whether something is shown and nothing is run."""
    shows_help: bool
    """Whether our own help is asked for."""
    of_hydra: bool
    """Whether it is about Hydra itself or the shell, for which no run is composed."""
    config_dir: str | None
    unknown: tuple[str, ...] = ()
    """What starts with a dash and is not a flag, with the word behind it where that may be its value."""


def read_flags(argv: Sequence[str]) -> Flags:
    """Tell flags and words apart.

    Raises:
        ConfigError: a flag lacks its value, or has one that it does not take; or it is one of Hydra's that is fixed.
    """
    unknown, rest = _split_unknown(argv)
    # Else it would take a word behind it for its value.
    pairs = zip(rest, [*rest[1:], ""], strict=False)
    rest = [f"--info={INFO[0]}" if word in ("--info", "-i") and after not in INFO else word for word, after in pairs]
    found = _parser().parse_intermixed_args(rest)
    if found.config_name or found.config_path:
        raise ConfigError(FIXED, hint=OWN_FOLDER)
    if found.experimental_rerun:
        raise ConfigError("--experimental-rerun repeats nothing here", hint="write the words again")
    switches = ("help", "hydra_help", "resolve", "multirun", "shell_completion")
    valued = ("cfg", "package", "config_dir", "info")
    hydra = [f"--{name.replace('_', '-')}" for name in switches if getattr(found, name)]
    hydra += [f"--{name.replace('_', '-')}={value}" for name in valued if (value := getattr(found, name)) is not None]
    of_hydra = found.hydra_help or found.shell_completion
    if found.shell_completion and (len(found.words) != 1 or not COMPLETION.fullmatch(found.words[0])):
        raise ConfigError(
            "--shell-completion takes one word", hint=f"write install=SHELL or uninstall=SHELL, of {', '.join(SHELLS)}"
        )
    if (found.resolve or found.package) and not found.cfg:
        raise ConfigError("--resolve and --package go with --cfg", hint="write --cfg job")
    return Flags(
        words=tuple(found.words),
        for_hydra=tuple(hydra),
        multirun=found.multirun,
        shows_only=bool(found.help or of_hydra or found.cfg or found.info),
        shows_help=found.help,
        of_hydra=of_hydra,
        config_dir=found.config_dir,
        unknown=unknown,
    )


def offered_flags() -> tuple[str, ...]:
    """Return the flags of which ``--help`` speaks."""
    others = ("--cfg", "--config-dir", "--info", "--hydra-help", "--shell-completion", "--version")
    return ("--help", "--multirun", *others)


def _parser() -> argparse.ArgumentParser:
    """Return Hydra's flags, without its wording."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names in (("--help", "-h"), ("--hydra-help",), ("--resolve",), ("--run", "-r")):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--info", "-i", choices=INFO)
    for names in (("--package", "-p"), ("--config-dir", "-cd"), ("--config-name", "-cn"), ("--config-path", "-cp")):
        parser.add_argument(*names)
    parser.add_argument("--experimental-rerun")
    parser.add_argument("words", nargs="*")

    def refuse(message: str) -> NoReturn:
        raise ConfigError(message, hint="--help lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def _split_unknown(argv: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the first flag that there is not, with what may be its value, and the other words."""
    known = {option for action in _parser()._actions for option in action.option_strings}
    for index, word in enumerate(argv):
        if word.startswith("-") and word.partition("=")[0] not in known and not word.lstrip("-")[:1].isdigit():
            values = [value for value in argv[index + 1 : index + 2] if not value.startswith("-") and "=" not in value]
            return (word, *values), [*argv[:index], *argv[index + 1 + len(values) :]]
    return (), list(argv)
