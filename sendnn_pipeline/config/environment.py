"""The environment as a layer of the configuration: rows say which variable sets which key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.config.aliases import SHORT_FORMS
from sendnn_pipeline.config.decode import decode, is_mapping
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.files import read_yaml

REGISTRY_PREFIX = "SENDNN_INFERENCE_"
OWN_PREFIX = "SENDNN_PIPELINE_"
KEY_PREFIX = "SENDNN_PIPELINE__"
API_KEY = "SENDNN_PIPELINE_API_KEY"
CONFIG_DIR = "SENDNN_PIPELINE_CONFIG_DIR"
PLUGINS_ALLOW = "SENDNN_PIPELINE_PLUGINS"
PLUGINS_DENY = "SENDNN_PIPELINE_PLUGINS_DENY"
PLUGIN_TIMEOUT_SECONDS = "SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS"
# The file of ``env/`` that has no rows.
RETIRED_FILE = "retired.yaml"
FORM_OF_FILE = "a file of env/ is YAML: VARIABLE: {key: group.key, default: ..., doc: ...}"
OWN_VARIABLES = (API_KEY, CONFIG_DIR, PLUGINS_ALLOW, PLUGINS_DENY, PLUGIN_TIMEOUT_SECONDS)


class EnvRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One variable of the registry. How its text is read, the type of its key says."""

    variable: str
    key: str
    default: str
    doc: str
    decoder: str | None = None
    """Of the release before; no longer used."""


@dataclass(frozen=True)
class EnvValue:
    """A variable that is set, with the key it lands on and its decoded value."""

    variable: str
    key: str
    value: Any


def read_rows(conf_dirs: Mapping[str, Path]) -> tuple[dict[str, EnvRow], list[str]]:
    """Read ``env/*.yaml`` of every configuration folder.

    Args:
        conf_dirs: configuration folders by the name of their provider.

    Returns:
        Rows by variable, and warnings.

    Raises:
        ConfigError: a file or a row is not of the form, or two files define one variable.
    """
    rows: dict[str, EnvRow] = {}
    files: dict[str, Path] = {}
    warnings = []
    for provider, folder in conf_dirs.items():
        for file in sorted(set((folder / "env").glob("*.yaml")) - {folder / "env" / RETIRED_FILE}):
            for variable, entry in _read_file(file, provider).items():
                row = _read_row(variable, entry, f"{file} ({provider})")
                if variable in rows:
                    raise ConfigError(
                        f"variable {variable} is defined by {files[variable]} and {file}", hint="rename one"
                    )
                if row.decoder is not None:
                    warnings.append(f"{file}: {variable} has a decoder, which the type of {row.key} decides now")
                rows[variable], files[variable] = row, file
    return rows, warnings


def unknown_keys(rows: Mapping[str, EnvRow], types: Mapping[str, Any]) -> list[str]:
    """Return a warning for each row whose key does not exist: its variable would end every run that finds it set.

    Args:
        rows: by variable.
        types: of every key and group.
    """
    lost = [row for row in rows.values() if row.key not in types]
    return [f"row {row.variable} names the unknown key {row.key}; {nearest(row.key, types)}" for row in lost]


def _read_file(file: Path, provider: str) -> Mapping[str, Any]:
    content = read_yaml(file) or {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file} ({provider}) has no rows", hint=FORM_OF_FILE)
    return content


def _read_row(variable: str, entry: Any, where: str) -> EnvRow:
    try:
        row = {"variable": variable, **entry}
        return msgspec.convert(row | {"default": _as_text(row["default"])} if "default" in row else row, EnvRow)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(
            f"row {variable} of {where} is not usable: {error}", hint="a row has key, default and doc"
        ) from None


def _as_text(default: Any) -> Any:
    """Return a default as a variable would have it; YAML makes numbers and booleans of some."""
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case int() | float():
            return str(default)
        case _:
            return default


def read_environment(
    environ: Mapping[str, str], rows: Mapping[str, EnvRow], types: Mapping[str, Any], adopted: Mapping[str, str]
) -> tuple[list[EnvValue], list[str]]:
    """Decode every variable of ours that is set.

    Args:
        environ: the environment.
        rows: the registry.
        types: of every key and group.
        adopted: retired variables to read instead of rows' variables, by the row's variable.

    Returns:
        The values, a prefixed key after the registry's variable for the same key, and warnings for what is empty.

    Raises:
        ConfigError: a value does not decode, or a prefixed variable names no key.
    """
    keys = {adopted.get(name, name): row.key for name, row in rows.items()}
    for variable in sorted(environ):
        if variable.startswith(KEY_PREFIX):
            key = variable.removeprefix(KEY_PREFIX).lower().replace("__", ".")
            keys[variable] = SHORT_FORMS.get(key, key)
    values, warnings = [], []
    for variable, key in keys.items():
        text = environ.get(variable)
        if text is None:
            continue
        _refuse_key(variable, key, types)
        if text == "":
            warnings.append(f"{variable} is empty and counts as unset")
            continue
        try:
            values.append(EnvValue(variable, key, decode(text, types[key])))
        except ValueError as accepts:
            raise ConfigError(
                f"{variable}={text!r} sets {key} and must be {accepts}", hint="correct or unset it"
            ) from None
    return values, warnings


def _refuse_key(variable: str, key: str, types: Mapping[str, Any]) -> None:
    """Raise where no variable can set a key."""
    mapping = next((name for name in (key, key.rpartition(".")[0]) if is_mapping(types.get(name))), None)
    if mapping is not None:
        hint = f"set it in a profile, or on the command line: '{mapping}={{NAME: VALUE}}'"
        raise ConfigError(f"{variable} sets {mapping}, a mapping, which no variable writes", hint=hint)
    if key not in types:
        raise ConfigError(f"{variable} names the unknown key {key}", hint=nearest(key, types))
