"""What a shell offers behind what has been typed; ``--shell-completion install=bash`` has it ask."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import EnumType
from pathlib import Path

from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.config.accepted import without_none
from sendnn_pipeline.config.aliases import RENAMED
from sendnn_pipeline.config.flags import offered_flags, read_flags
from sendnn_pipeline.errors import ConfigError, PipelineError
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.tools import TOOLS

# What a shell has been typed.
LINE, POINT = "COMP_LINE", "COMP_POINT"
QUERY = "query="
# Hydra's own script for zsh is that for bash, which asks zsh for what only bash has.
ZSH = """_sendnn_pipeline() {
  local -a found begun
  found=("${(@f)$(COMP_LINE=$LBUFFER COMP_POINT=${#LBUFFER} ${words[1]} -sc query=zsh 2> /dev/null)}")
  found=(${found:#})
  begun=(${(M)found:#*[=./]})
  compadd -S '' -a begun
  found=(${found:#*[=./]})
  compadd -a found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -D }
compdef _sendnn_pipeline sendnn-pipeline
"""
SCRIPTS = {
    "install=zsh": ZSH,
    "uninstall=zsh": "compdef -d sendnn-pipeline\nunfunction _sendnn_pipeline\n",
}
# Tools whose words are those of a run.
OF_RUNS = ("explain", "doctor")


def asks(argv: Sequence[str]) -> bool:
    """Return whether a shell asks, as its script was made to, or is to have a script of ours."""
    ours = argv[1:] and (argv[1].startswith(QUERY) or argv[1] in SCRIPTS)
    return len(argv) == 2 and argv[0] in ("-sc", "--shell-completion") and bool(ours)


def main(argv: Sequence[str]) -> None:
    """Print what may stand at the end of the line, as the shell reads it, or the shell's script.

    Raises:
        ConfigError: nothing has been typed.
    """
    if argv[1] in SCRIPTS:
        sys.stdout.write(SCRIPTS[argv[1]])
        return
    environ = process_environment()
    if LINE not in environ:
        raise ConfigError(f"{LINE} is not set", hint=f"{QUERY} is what shells ask; write install=SHELL")
    line = environ[LINE][: int(environ.get(POINT) or len(environ[LINE]))]
    separator = " " if argv[1] == f"{QUERY}bash" else "\n"
    sys.stdout.write(separator.join(complete(line)) + "\n")


def complete(line: str) -> list[str]:
    """Return what the last word of a line may become; nothing for a line that is wrong already."""
    words = line.split()[1:]
    typed = "" if line[-1:].isspace() or not words else words.pop()
    tool = words[0] if words and words[0] in TOOLS else ""
    try:
        flags = read_flags(words)
        context = load_context(process_environment(), flags.config_dir)
    except PipelineError:
        return []
    if tool and tool not in OF_RUNS:
        return []
    found = [*_groups_and_keys(context, words, typed, names=tool == "explain"), *offered_flags()]
    found += TOOLS if not words else ()
    return sorted({candidate for candidate in found if candidate.startswith(typed) and (typed or candidate[0] != "-")})


def _groups_and_keys(context: AppContext, words: Sequence[str], typed: str, *, names: bool) -> Iterator[str]:
    key, equals, value = typed.partition("=")
    if equals:
        yield from (f"{key}={text}" for text in _values(context, key, value))
        return
    yield from (f"{group}=" for group, options in context.tree.groups.items() if options)
    keys = context.schemas.keys()
    for name in keys:
        group, dot, _ = name.partition(".")
        owners = context.schemas.owners(name)
        if name in RENAMED or (owners and not set(owners) & set(words)):
            continue
        if dot and not typed.startswith(f"{group}."):
            # The group first, not each of its keys.
            yield f"{group}."
        else:
            yield from (f"{name}=", name) if names else (f"{name}=",)


def _values(context: AppContext, key: str, value: str) -> Iterable[str]:
    if key in context.tree.groups:
        return context.tree.groups[key]
    kind = without_none(context.schemas.keys().get(key, object))
    if isinstance(kind, EnumType):
        return list(kind.__members__)
    if kind is bool:
        return ["true", "false"]
    return _files(value) if value[:1] in ("/", ".", "~") else []


def _files(begun: str) -> list[str]:
    folder, slash, name = begun.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(folder + slash or ".").expanduser()), key=lambda entry: entry.name)
    except (OSError, RuntimeError):
        return []
    return [f"{folder}{slash}{one.name}{'/' * one.is_dir()}" for one in entries if one.name.startswith(name)]
