"""The environment as a layer of the configuration: rows say which variable sets which key and how its text is read.

This is the one module that reads the process environment.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sendnn_pipeline.errors import ConfigError, nearest

RETIRED_PREFIX = "VLLM_SPYRE_"
REGISTRY_PREFIX = "SENDNN_INFERENCE_"
OWN_PREFIX = "SENDNN_PIPELINE_"
KEY_PREFIX = "SENDNN_PIPELINE__"
API_KEY = "SENDNN_PIPELINE_API_KEY"
PLUGINS_ALLOW = "SENDNN_PIPELINE_PLUGINS"
PLUGINS_DENY = "SENDNN_PIPELINE_PLUGINS_DENY"
PLUGIN_TIMEOUT_SECONDS = "SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS"
OWN_VARIABLES = (API_KEY, PLUGINS_ALLOW, PLUGINS_DENY, PLUGIN_TIMEOUT_SECONDS)


@dataclass(frozen=True)
class EnvRow:
    """One variable of the registry."""

    variable: str
    key: str
    decoder: str
    default: str
    doc: str
    file: Path


@dataclass(frozen=True)
class EnvValue:
    """A variable that is set, with the key it lands on and its decoded value."""

    variable: str
    key: str
    value: Any


def process_environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)  # noqa: TID251  the one place that reads it


def _decode_bool(text: str) -> bool:
    words = {"0": False, "false": False, "1": True, "true": True}
    if text.lower() not in words:
        raise ValueError("0, 1, true or false")
    return words[text.lower()]


def _decode_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError("a whole number")
    return int(text)


def _decode_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _decode_int_list(text: str) -> list[int]:
    try:
        return [_decode_int(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ValueError("whole numbers separated by commas, such as 64,128") from None


def _decode_text_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _decode_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", text):
        raise ValueError("a name")
    return text


def _decode_dtype(text: str) -> str:
    if text not in ("float32", "float16", "bfloat16"):
        raise ValueError("float32, float16 or bfloat16")
    return text


def _decode_text(text: str) -> str:
    if "${" in text:
        raise ValueError("plain text without ${")
    return text


def _decode_shapes(text: str) -> Any:
    return _decode_text(text) if text == "auto" else _decode_text_list(text)


DECODERS: dict[str, Callable[[str], Any]] = {
    "bool": _decode_bool,
    "int": _decode_int,
    "float": _decode_float,
    "int_list": _decode_int_list,
    "text_list": _decode_text_list,
    "name": _decode_name,
    "dtype": _decode_dtype,
    "text": _decode_text,
    "shapes": _decode_shapes,
}


def read_rows(conf_dirs: Mapping[str, Path]) -> dict[str, EnvRow]:
    """Read ``env/*.yaml`` of every configuration folder.

    Args:
        conf_dirs: configuration folders by the name of their provider.

    Raises:
        ConfigError: a row is incomplete, or two files claim one variable.
    """
    rows: dict[str, EnvRow] = {}
    for provider, folder in conf_dirs.items():
        for file in sorted((folder / "env").glob("*.yaml")):
            for variable, fields in (yaml.safe_load(file.read_text()) or {}).items():
                try:
                    row = EnvRow(variable=variable, file=file, **fields)
                    DECODERS[row.decoder]
                except (TypeError, KeyError) as error:
                    raise ConfigError(
                        f"row {variable} of {file} ({provider}) is not usable: {error}",
                        hint=f"a row has key, decoder, default and doc; decoders: {', '.join(sorted(DECODERS))}",
                    ) from None
                if variable in rows:
                    raise ConfigError(
                        f"variable {variable} is claimed by {rows[variable].file} and {file}", hint="rename one"
                    )
                rows[variable] = row
    return rows


def _decode(variable: str, key: str, decoder: str, text: str) -> EnvValue:
    try:
        return EnvValue(variable, key, DECODERS[decoder](text))
    except ValueError as accepts:
        raise ConfigError(f"{variable}={text!r} sets {key} and must be {accepts}", hint="correct or unset it") from None


def read_environment(
    environ: Mapping[str, str], rows: Mapping[str, EnvRow], decoders_of_keys: Mapping[str, str]
) -> tuple[list[EnvValue], list[str]]:
    """Decode every variable of ours that is set.

    Args:
        environ: the environment.
        rows: the registry.
        decoders_of_keys: decoder of every key and group, for ``SENDNN_PIPELINE__group__key``.

    Returns:
        The values, a prefixed key after the registry's variable for the same key, and warnings for what is ignored.

    Raises:
        ConfigError: a value does not decode, or a prefixed variable names no key.
    """
    values: list[EnvValue] = []
    warnings: list[str] = []
    for variable, row in rows.items():
        text = environ.get(variable)
        if text is None:
            continue
        if text == "":
            warnings.append(f"{variable} is empty and counts as unset")
            continue
        values.append(_decode(variable, row.key, row.decoder, text))
    for variable, text in sorted(environ.items()):
        if variable.startswith(KEY_PREFIX):
            key = variable.removeprefix(KEY_PREFIX).lower().replace("__", ".")
            if key not in decoders_of_keys:
                raise ConfigError(f"{variable} names no key {key}", hint=nearest(key, decoders_of_keys))
            if text == "":
                warnings.append(f"{variable} is empty and counts as unset")
                continue
            values.append(_decode(variable, key, decoders_of_keys[key], text))
    warnings.extend(_unknown_variables(environ, rows))
    return values, warnings


def _unknown_variables(environ: Mapping[str, str], rows: Mapping[str, EnvRow]) -> list[str]:
    known = [*rows, *OWN_VARIABLES]
    warnings = []
    for variable in sorted(environ):
        if variable in known or variable.startswith(KEY_PREFIX):
            continue
        if variable.startswith(RETIRED_PREFIX):
            successor = REGISTRY_PREFIX + variable.removeprefix(RETIRED_PREFIX)
            hint = f"it is now {successor}" if successor in rows else nearest(successor, rows)
            warnings.append(f"{variable} is retired and ignored; {hint}")
        elif variable.startswith((REGISTRY_PREFIX, OWN_PREFIX)):
            warnings.append(f"{variable} is no known variable and is ignored; {nearest(variable, known)}")
    return warnings
