"""An option's file: what it sets, and what is wrong with one that Hydra cannot use."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.plugins.config_source import ConfigSource
from yaml import YAMLError

from sendnn_pipeline.config.aliases import SHORT_FORMS
from sendnn_pipeline.config.characters import read_characters
from sendnn_pipeline.config.exact_words import holds_text
from sendnn_pipeline.config.options import PROFILE
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.files import read_text

DEFAULTS = "defaults"
MISSING = "???"
SELF = "_self_"
# Groups that are Hydra's, and short forms of keys, of which Hydra's own error says more.
OF_ELSEWHERE = ("hydra/", *SHORT_FORMS)
GLOBAL = "# @package _global_"
FORM = f"begin it with the line '{GLOBAL}', then set keys below their groups, such as 'serve: {{port: 8080}}'"
CHOICE = "choose an option in its defaults list: 'defaults: [override /{group}: {option}]'"

Groups = Mapping[str, Mapping[str, Any]]


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
    merged = dict(_leaves(content, package, types))
    characters = dict(_leaves(read_characters(read_text(file)), package, types))
    exact = {
        key: _as_merged(characters[key], value) if value is not None and holds_text(_type(key, types)) else value
        for key, value in merged.items()
    }
    return exact, merged


def _as_merged(characters: Any, value: Any) -> Any:
    """Return the characters of a single item as a list where Hydra reads one."""
    return [characters] if isinstance(value, list) and not isinstance(characters, list) else characters


def _leaves(content: Any, package: str, types: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        values = {key: value for key, value in content.items() if key != DEFAULTS}
        yield from ((key, value) for key, value in leaves(values, package, types) if value != MISSING)


def leaves(values: Mapping[str, Any], prefix: str, types: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value: mappings below it, too, where a key may be anything.

    Args:
        values: nested.
        prefix: the key they lie below; empty at the top.
        types: of keys.
    """
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping) and value and types.get(key) is not Any:
            yield from leaves(value, key, types)
        else:
            yield key, value


def _type(key: str, types: Mapping[str, Any]) -> Any:
    """Return the type of a key, or of the mapping that it is an entry of."""
    return types.get(key, types.get(key.rpartition(".")[0]))


def find_problem(file: Path, groups: Groups, types: Mapping[str, Any]) -> ConfigError | None:
    """Return what is wrong with a file, naming it and the form; None where that is not in sight.

    Args:
        file: of an option.
        groups: options by group.
        types: of all keys.
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
    problem = _problem_of_header(file, text, header, groups)
    return problem or _problem_of_content(file, content or {}, header, groups, types)


def _problem_of_header(file: Path, text: str, header: str | None, groups: Groups) -> ConfigError | None:
    if header is not None:
        known = header.split(".")[0] in ("_global_", "_group_", *groups)
        return None if known else ConfigError(f"{file} has the header '# @package {header}', no group", hint=FORM)
    if re.search(r"^\s*#\s*@package\s", text, re.MULTILINE):
        return ConfigError(f"{file} has its header '# @package' below other lines", hint="make it the first line")
    return ConfigError(f"{file} has no header", hint=FORM) if file.parent.name == PROFILE else None


def _problem_of_content(
    file: Path, content: Mapping[str, Any], header: str | None, groups: Groups, types: Mapping[str, Any]
) -> ConfigError | None:
    is_global = header == "_global_"
    within = "" if is_global else header or file.parent.name
    problem = None
    if DEFAULTS in content and (is_global or header is None):
        problem = _problem_of_defaults(file, content[DEFAULTS], groups)
    problem = problem or (_problem_of_groups(file, content, groups) if is_global else None)
    return problem or _problem_of_names(file, content, types, within)


def _problem_of_defaults(file: Path, defaults: Any, groups: Groups) -> ConfigError | None:
    if not isinstance(defaults, list):
        return ConfigError(f"{file} has no list under 'defaults'", hint=CHOICE.format(group="GROUP", option="OPTION"))
    names = []
    for entry in defaults:
        pairs = list(entry.items()) if isinstance(entry, dict) else [(entry, None)]
        if len(pairs) != 1 or not isinstance(pairs[0][0], str):
            return _not_in_defaults(file, entry, "GROUP", "OPTION")
        name, option = pairs[0]
        if name in names:
            return ConfigError(f"{file} has '{name}' twice in its defaults list", hint="leave one of them")
        names.append(name)
        if (problem := _problem_of_entry(file, name, option, groups)) is not None:
            return problem
    return None


def _problem_of_entry(file: Path, name: str, option: Any, groups: Groups) -> ConfigError | None:
    """Return what is wrong with one entry of a defaults list, whose option is None where it is a single word."""
    profile = file.parent.name == PROFILE
    group = name.removeprefix("override ").strip().removeprefix("/")
    if group == PROFILE or (profile and option is None and name in groups[PROFILE]):
        return ConfigError(
            f"{file} has a profile in its defaults list", hint="a profile takes no other; write its keys here"
        )
    if name == f"override /{group}" and group in groups:
        if option is None:
            return _not_in_defaults(file, name, group, "OPTION")
        known = isinstance(option, list) or option in groups[group]
        return (
            None
            if known
            else ConfigError(
                f"unknown option {group}={option}", where=str(file), hint=nearest(str(option), groups[group])
            )
        )
    # Written as a path, or with a package of its own.
    group, _, inner = group.partition("@")[0].partition("/")
    if group in groups and (profile or name.startswith(("/", "override"))):
        return _not_in_defaults(file, name, group, option or inner or "OPTION")
    if profile and name != SELF and not group.startswith(OF_ELSEWHERE):
        return _not_in_defaults(file, name, "GROUP", "OPTION")
    return None


def _not_in_defaults(file: Path, entry: Any, group: str, option: Any) -> ConfigError:
    shown = repr(entry) if isinstance(entry, str) else entry
    return ConfigError(f"{file} has {shown} in its defaults list", hint=CHOICE.format(group=group, option=option))


def _problem_of_groups(file: Path, content: Mapping[str, Any], groups: Groups) -> ConfigError | None:
    for group, value in content.items():
        above, dot, below = str(group).partition(".")
        if dot and above in groups:
            return ConfigError(f"{file} sets {group} in one line", hint=f"write '{above}: {{{below}: {value}}}'")
        if group not in groups or isinstance(value, dict):
            continue
        if isinstance(value, str) and value in groups[group]:
            return ConfigError(
                f"{file} sets {group}: {value}, and {group} is a group", hint=CHOICE.format(group=group, option=value)
            )
        shown = "nothing" if value is None else repr(value)
        return ConfigError(
            f"{file} sets {group} to {shown}, and {group} is a group of keys",
            hint=f"write '{group}: {{KEY: value}}', or {CHOICE.format(group=group, option='OPTION')}",
        )
    return None


def _problem_of_names(
    file: Path, content: Mapping[str, Any], types: Mapping[str, Any], within: str = ""
) -> ConfigError | None:
    for name, value in content.items():
        if not isinstance(name, str):
            return ConfigError(f"{file} has the key {name}, which is no text", hint="keys are names")
        key = f"{within}.{name}" if within else name
        above, dot, below = name.partition(".")
        if dot and key in types:
            return ConfigError(f"{file} sets {name} in one line", hint=f"write '{above}: {{{below}: {value}}}'")
        if isinstance(value, dict) and (problem := _problem_of_names(file, value, types, key)) is not None:
            return problem
    return None
