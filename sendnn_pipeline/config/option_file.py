"""An option's file: what it sets, and what is wrong with one that Hydra cannot use."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.plugins.config_source import ConfigSource
from yaml import YAMLError

from sendnn_pipeline.config.exact_words import holds_text
from sendnn_pipeline.config.option_yaml import read_characters
from sendnn_pipeline.config.options import PROFILE, flatten
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.files import read_text

DEFAULTS = "defaults"
MISSING = "???"
GLOBAL = "# @package _global_"
FORM = f"begin it with the line '{GLOBAL}', then set keys below their groups, such as 'serve: {{port: 8080}}'"
CHOICE = "choose an option in its defaults list: 'defaults: [override /{group}: {option}]'"


def read_option(
    file: Path, content: Any, package: str, types: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file sets by dotted key: as the keys' types take it, and as Hydra does.

    They differ where YAML makes a number of text. A value that is missing sets nothing.

    Args:
        file: of the option.
        content: what Hydra read there.
        package: where its keys lie, as Hydra found it.
        types: of keys.
    """
    merged = dict(_leaves(content, package))
    characters = dict(_leaves(read_characters(read_text(file)), package))
    exact = {
        key: _as_merged(characters[key], value) if value is not None and holds_text(_type(key, types)) else value
        for key, value in merged.items()
    }
    return exact, merged


def _as_merged(characters: Any, value: Any) -> Any:
    """Return the characters of a single item as a list where Hydra reads one."""
    return [characters] if isinstance(value, list) and not isinstance(characters, list) else characters


def _leaves(content: Any, package: str) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        values = {key: value for key, value in content.items() if key != DEFAULTS}
        yield from ((key, value) for key, value in flatten(values, package) if value != MISSING)


def _type(key: str, types: Mapping[str, Any]) -> Any:
    """Return the type of a key, or of the mapping that it is an entry of."""
    return types.get(key, types.get(key.rpartition(".")[0]))


def find_problem(file: Path, groups: Mapping[str, Mapping[str, Any]]) -> ConfigError | None:
    """Return what is wrong with a file that did not compose, naming it and the form; None where that is not in sight.

    Args:
        file: of an option.
        groups: options by group.
    """
    try:
        text = read_text(file)
        content = read_characters(text)
        header = ConfigSource._get_header_dict(text)["package"]
    except YAMLError:
        # It names the file itself.
        return None
    except (OSError, ValueError) as error:
        return ConfigError(f"{file} cannot be read: {error}", hint="files of options are YAML, in UTF-8")
    if content is not None and not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        return ConfigError(f"{file} is {kind}, and must set keys", hint="write one 'key: value' on each line")
    return _problem_of_header(file, text, header, groups) or _problem_of_content(file, content or {}, header, groups)


def _problem_of_header(
    file: Path, text: str, header: str | None, groups: Mapping[str, Mapping[str, Any]]
) -> ConfigError | None:
    if header is not None:
        known = header.split(".")[0] in ("_global_", "_group_", *groups)
        return None if known else ConfigError(f"{file} has the header '# @package {header}', no group", hint=FORM)
    if re.search(r"^\s*#\s*@package\s", text, re.MULTILINE):
        return ConfigError(f"{file} has its header '# @package' below other lines", hint="make it the first line")
    return ConfigError(f"{file} has no header", hint=FORM) if file.parent.name == PROFILE else None


def _problem_of_content(
    file: Path, content: Mapping[str, Any], header: str | None, groups: Mapping[str, Mapping[str, Any]]
) -> ConfigError | None:
    is_global = header == "_global_"
    problem = _problem_of_defaults(file, content.get(DEFAULTS), groups) if is_global or header is None else None
    return problem or (_problem_of_groups(file, content, groups) if is_global else None)


def _problem_of_defaults(file: Path, defaults: Any, groups: Mapping[str, Mapping[str, Any]]) -> ConfigError | None:
    profile = file.parent.name == PROFILE
    if defaults is not None and not isinstance(defaults, list):
        return ConfigError(f"{file} has no list under 'defaults'", hint=CHOICE.format(group="GROUP", option="OPTION"))
    for entry in defaults or ():
        name, option = next(iter(entry.items())) if isinstance(entry, dict) and entry else (entry, "OPTION")
        group = str(name).removeprefix("override ").strip().removeprefix("/")
        if group == PROFILE or (profile and isinstance(entry, str) and entry in groups.get(PROFILE, ())):
            return ConfigError(
                f"{file} has a profile in its defaults list", hint="a profile takes no other; write its keys here"
            )
        if group in groups and name != f"override /{group}" and (profile or str(name).startswith(("/", "override"))):
            return ConfigError(
                f"{file} has '{name}' in its defaults list", hint=CHOICE.format(group=group, option=option)
            )
        if name == f"override /{group}" and option not in groups.get(group, (option,)):
            return ConfigError(f"unknown option {group}={option}", where=str(file), hint=nearest(option, groups[group]))
    return None


def _problem_of_groups(
    file: Path, content: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> ConfigError | None:
    for group, value in content.items():
        above, dot, below = str(group).partition(".")
        if dot and above in groups:
            return ConfigError(f"{file} sets {group} in one line", hint=f"write '{above}: {{{below}: {value}}}'")
        if group not in groups or isinstance(value, dict) or value is None:
            continue
        if isinstance(value, str) and value in groups[group]:
            return ConfigError(
                f"{file} sets {group}: {value}, and {group} is a group", hint=CHOICE.format(group=group, option=value)
            )
        return ConfigError(
            f"{file} sets {group} to {value!r}, and {group} is a group of keys",
            hint=f"write '{group}: {{KEY: value}}', or {CHOICE.format(group=group, option='OPTION')}",
        )
    return None
