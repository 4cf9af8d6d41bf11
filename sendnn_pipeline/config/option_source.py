"""Files of options as Hydra reads them, but for a byte-order mark, which would hide the header, and other encodings.

A single item of a key that takes a list is a list of one, as on the command line.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_origin

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import OmegaConf

from sendnn_pipeline.config.accepted import accepted, without_none
from sendnn_pipeline.config.decode import is_mapping
from sendnn_pipeline.config.option_yaml import read_values
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.files import read_text

HEADER_LENGTH = 512
GLOBAL = "_global_"
MISSING = "???"


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of options."""

    types: ClassVar[Mapping[str, Any]] = {}
    """Of all keys, by dotted name."""

    def is_config(self, config_path: str) -> bool:
        """Return whether an option is listed, readable or not: one that is not would be missing in silence."""
        return os.path.lexists(Path(self.path, self._normalize_file_name(config_path)))

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises:
            ConfigError: it is not UTF-8, or has a mapping where a key takes none.
            ConfigLoadError: it is not there.
        """
        file = Path(self.path, self._normalize_file_name(config_path))
        if not os.path.lexists(file):
            raise ConfigLoadError(f"Config not found : {file}")
        text = _read_file(file)
        stream = io.StringIO(text)
        # By which YAML's errors name it.
        stream.name = str(file)
        header = self._get_header_dict(text[:HEADER_LENGTH])
        where = f"{self.scheme()}://{self.path}"
        values = read_values(stream)
        if not isinstance(values, dict | list | str | None):
            raise OSError(f"{file} is a {type(values).__name__}")
        if isinstance(values, dict):
            package = header["package"] or config_path.rpartition("/")[0].replace("/", ".")
            values = _with_lists(file, values, "" if package == GLOBAL else package, self.types)
        config = OmegaConf.create({} if values is None else values)
        return ConfigResult(config=config, path=where, provider=self.provider, header=header)


def _read_file(file: Path) -> str:
    """Return the text of what a folder lists as an option.

    An option that may be missing, as a profile may, would be left out in silence where it is there and cannot be read.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{file} cannot be read: it is no file", hint="options are files of YAML")
        return read_text(file)
    except OSError as error:
        reason = "it is a link to nothing" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{file} cannot be read: {reason}", hint="options are files of YAML") from None
    except ValueError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


def _with_lists(file: Path, values: dict[Any, Any], within: str, types: Mapping[str, Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, value in values.items():
        key = f"{within}.{name}" if within else str(name)
        if isinstance(value, dict):
            _refuse_mapping(key, value, types, where=str(file))
            found[name] = _with_lists(file, value, key, types)
            continue
        _refuse_leaf(key, value, types, where=str(file))
        if isinstance(value, str | int | float) and value != MISSING and _is_list(types.get(key)):
            found[name] = [value]
        else:
            found[name] = value
    return found


def _refuse_mapping(key: str, value: Mapping[Any, Any], types: Mapping[str, Any], where: str) -> None:
    """Raise where a key takes no mapping: merging says neither which key that is nor what is right."""
    kind = types.get(key, Any)
    # What is of any type is its engine's to check.
    if kind is not Any and not is_mapping(kind):
        hint = "write it in brackets, such as [64]" if _is_list(kind) else ""
        raise ConfigError(f"{key}={value} must be {accepted(kind)}", where=where, hint=hint)


def _refuse_leaf(key: str, value: Any, types: Mapping[str, Any], where: str) -> None:
    """Raise where a group of keys below another is one value; those at the top have more to choose from."""
    below = next((known for known in types if known.startswith(f"{key}.")), None) if "." in key else None
    if below is not None and value != MISSING:
        raise ConfigError(
            f"{key} is a group of keys, not {value}", where=where, hint=f"set one of them, such as {below}"
        )
    kind = types.get(key, Any)
    if isinstance(value, list) and kind is not Any and is_mapping(kind):
        raise ConfigError(f"{key}={value} must be {accepted(kind)}", where=where)


def _is_list(kind: Any) -> bool:
    return get_origin(without_none(kind)) is list


def read_options_ourselves(types: Mapping[str, Any]) -> None:
    """Have Hydra read folders through ``FileConfigSource``; it has no public way to be told.

    Args:
        types: of all keys.
    """
    Plugins.instance()
    # Of the class and not of one made here: a sweep's launcher pickles the registry.
    FileConfigSource.types = types
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
