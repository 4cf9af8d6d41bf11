"""Hydra's and OmegaConf's errors as one line with the nearest names."""

import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sendnn_pipeline.config.accepted import accepted, without_none
from sendnn_pipeline.config.aliases import SHORT_FORMS
from sendnn_pipeline.config.option_file import GLOBAL
from sendnn_pipeline.config.options import PRIMARY, PROFILE, SCHEMA_SUFFIX, OptionTree
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.config.unread import no_group
from sendnn_pipeline.errors import ConfigError, nearest

# What Hydra says of ``override /known: x`` and ``/known: x`` in a defaults list, and of ``known: x`` below it.
SHORT_FORM_IN_FILE = (
    r"Could not override '(?:\S+/)?(?P<alias>\w+)(?:@[^']*)?(?P<value>)'",
    r"Could not find '(?P<alias>\w+)/(?P<value>[^']+)'",
    r"is not a subclass of (?P<alias>\w+)Config\. value: (?P<value>\S+)",
)

Groups = Mapping[str, Mapping[str, Any]]


def one_line(error: Exception, tree: OptionTree, schemas: SchemaStore) -> ConfigError:
    """Rewrite an error.

    Args:
        error: of Hydra or OmegaConf.
        tree: of all options.
        schemas: of all keys.
    """
    groups = tree.groups
    cause, text = _first_cause(error), str(error)
    if isinstance(cause, FileNotFoundError) and cause.filename is None:
        # Hydra asks where it is.
        return ConfigError(f"the current folder cannot be read: {cause.strerror}", hint="change to one that is there")
    return (
        _misused_short_form(text)
        or _wrong_file(text, cause, groups)
        or _wrong_name(text, str(cause), tree, schemas)
        or _wrong_value(text, str(cause), schemas)
    )


def _first_cause(error: BaseException) -> BaseException:
    """Return what an error began with.

    OmegaConf's own say key and value; under a debugger or a coverage tool they are raised from what they were made
    from, which says less, or from themselves.
    """
    while error.__cause__ is not None and not isinstance(error, OmegaConfBaseException):
        error = error.__cause__
    return error


def _wrong_file(text: str, cause: BaseException, groups: Groups) -> ConfigError | None:
    """Return the error for an option's file that is not YAML, or whose defaults list cannot be followed."""
    if isinstance(cause, RecursionError):
        return ConfigError("the defaults lists of the chosen options go in a circle", hint="take one out")
    if isinstance(cause, OSError) and cause.strerror and cause.filename:
        return ConfigError(f"the option's file {str(cause.filename)[-160:]} cannot be read: {cause.strerror}")
    if isinstance(cause, YAMLError):
        return ConfigError(f"an option's file cannot be read as YAML: {' '.join(str(cause).split())}")
    match = re.search(r"In '([^']+)': Could not override '([^'@]+)(@?)", text)
    if match is None or match[2] not in groups:
        return None
    where, group, below = match.groups()
    if below:
        return ConfigError(f"{where} overrides {group} below its own group", hint=f"begin its file with {GLOBAL}")
    return ConfigError(f"{where} overrides {group}, which is chosen after it", hint="override it in a profile")


def _wrong_name(text: str, cause: str, tree: OptionTree, schemas: SchemaStore) -> ConfigError | None:
    """Return the error for an option or a key that does not exist."""
    if match := re.search(r"(?:In '([^']+)': )?Could not (?:find|load) '([\w/-]+)/([^'/]+)'", text):
        return _listed_by(match[1], match[2], match[3], tree) or unknown_option(match[2], match[3], tree)
    if match := re.search(r"Could not override '([^'@]+)", text):
        return _unknown(match[1], tree, schemas)
    if match := re.search(r"Key '([^']+)' (?:is )?not in", cause):
        full = re.search(r"full_key: (\S+)", cause)
        return _unknown(full[1] if full else match[1], tree, schemas)
    return None


def _wrong_value(text: str, cause: str, schemas: SchemaStore) -> ConfigError:
    """Return the error for a value of another type, or one that cannot be read."""
    key = re.search(r"full_key: (\S+)", cause)
    types = schemas.keys()
    name, item, _ = key[1].partition("[") if key else ("", "", "")
    if name and re.match("no viable alternative|mismatched input|token recognition", cause):
        return ConfigError(f"{name} has a reference that is none: {cause.splitlines()[0]}", key=name)
    if "parsing" in text or "mismatched input" in text or "token recognition" in text:
        word = text.splitlines()[0]
        return ConfigError(word, hint="quote values that hold = , { } or spaces: 'key=\"a=b\"'")
    # Of a mapping's entry, the mapping's.
    kind = types.get(name, types.get(name.rpartition(".")[0]))
    if key and kind is not None:
        value = re.search(
            r"(?:to string:|Invalid value|Value) '(.*?)'(?:$|,| of type| could| is not)", cause, re.MULTILINE
        )
        written = "=null" if "is not Optional" in cause else f"={value[1]}" if value else ""
        is_list = get_origin(without_none(kind)) is list
        accepts = accepted(get_args(without_none(kind))[0] if item and is_list else kind)
        hint = "write it in brackets, such as [64]" if is_list and not item else ""
        return ConfigError(f"{key[1]}{written} must be {accepts}", hint=hint, key=name)
    if key and "Invalid type assigned" in cause:
        hint = f"set one of them, such as {_below(key[1], types)}"
        return ConfigError(f"{key[1]} is a group of keys", hint=hint, key=key[1])
    first, *others = cause.splitlines()
    if others and first.endswith("raised while composing config:"):
        first = f"{others[0]} ({first.partition(':')[0].lower()})"
    return ConfigError(f"{key[1]}: {first}" if key else first, key=key[1] if key else "")


def _below(group: str, types: Mapping[str, Any]) -> str:
    return next((f"{key}=…" for key in types if key.startswith(f"{group}.")), f"{group}.KEY=…")


def _misused_short_form(text: str) -> ConfigError | None:
    """Return the error for a file that uses the command line's short form of a key."""
    for pattern in SHORT_FORM_IN_FILE:
        match = re.search(pattern, text)
        if match and match["alias"].lower() in SHORT_FORMS:
            alias, value = match["alias"].lower(), match["value"] or "NAME"
            group, _, key = SHORT_FORMS[alias].partition(".")
            return ConfigError(
                f"{alias} has no options to choose from in a file",
                hint=f"write '{group}: {{{key}: {value}}}' below the defaults list",
                key=alias,
            )
    return None


def _listed_by(path: str | None, group: str, option: str, tree: OptionTree) -> ConfigError | None:
    """Return the error for what the defaults list of an option's file names; None where a word does."""
    file = tree.find(path) if path and path != PRIMARY else None
    if file is None:
        return None
    schema = option.removesuffix(SCHEMA_SUFFIX)
    hint = nearest(option, tree.groups.get(group, ()))
    if schema != option:
        hint = f"a plugin's register_schemas has to call store('{group}', '{schema}', ...)"
    return ConfigError(f"{file} has {option} in its defaults list, and {group} has no such option", hint=hint)


def unknown_option(group: str, option: str, tree: OptionTree) -> ConfigError:
    """Return the error for an option that there is not: what may be meant."""
    other = tree.find_other(f"{group}/{option}")
    if other is not None:
        return ConfigError(f"{other} is not read", hint=f"files of options end in .yaml: rename it {option}.yaml")
    if group == PROFILE and not tree.groups[PROFILE]:
        return ConfigError(
            "there are no profiles", hint="put FOLDER/profile/NAME.yaml and use --config-dir FOLDER", key=PROFILE
        )
    hint = nearest(option, tree.groups.get(group, ()))
    if group == "model" and "did you mean" not in hint:
        hint = f"{hint}; any other model is named by model=local model.path={option}".removeprefix("; ")
    return ConfigError(f"unknown option {group}={option}", hint=hint)


def odd_option(group: str, word: str, groups: Groups) -> ConfigError:
    """Return the error for a word that chooses an option by what is not text, such as a number."""
    name = word.partition("=")[2]
    if name in groups[group]:
        hint = f"{name} is read as another value than text: rename {groups[group][name]}"
    else:
        hint = nearest("", groups[group])
    return ConfigError(f"{word} is not the name of an option", hint=hint)


def _unknown(key: str, tree: OptionTree, schemas: SchemaStore) -> ConfigError:
    folder = tree.stranger(key.partition(".")[0])
    return unknown_key(key, tree.groups, schemas) if folder is None else ConfigError(no_group(folder, tree.groups))


def unknown_key(key: str, groups: Groups, schemas: SchemaStore) -> ConfigError:
    """Return the error for a key that no chosen option has: which options have it, else the nearest that exists."""
    owners = schemas.owners(key)
    if owners:
        verb = "has" if len(owners) == 1 else "have"
        return ConfigError(f"unknown key {key}", hint=f"only {' and '.join(owners)} {verb} it", key=key)
    return ConfigError(f"unknown key {key}", hint=nearest(key, [*schemas.keys(), *groups]), key=key)
