"""Known configurations: what is proven to run a model well, with the pattern of the model it is for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from sendnn_pipeline.config.known_registry_form import converted
from sendnn_pipeline.errors import ConfigError

# Options of the group that are no configurations.
CHOICES = ("auto", "none")
FIELDS = ("name", "match", "backends", "platforms", "runtimes")
TP_SIZE = "tp_size"


@dataclass(frozen=True)
class Runtime:
    """One way to run the model: values by key, for a number of ranks."""

    tp_size: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class KnownConfiguration:
    """A model's pattern and the ways to run it that are known."""

    name: str
    match: Mapping[str, Any]
    """Entries of config.json, nested ones too, that the model must have."""
    runtimes: tuple[Runtime, ...]
    backends: tuple[str, ...]
    platforms: tuple[str, ...] = ()
    """Machines as ``platform.machine()`` names them; empty stands for any."""
    where: str = ""
    """File or registry that it comes from."""


class ConfigRegistry(Protocol):
    """More known configurations; what ``register_config_registries`` factories return."""

    def configs(self) -> Sequence[KnownConfiguration]:
        """Return all of them."""


def read_known(folder: Path) -> tuple[KnownConfiguration, ...]:
    """Read every ``*.yaml`` of a folder such as ``conf/known``.

    Raises:
        ConfigError: a file is not of the form; the message names it.
    """
    return read_options({file.stem: file for file in sorted(folder.glob("*.yaml"))}, str)


def read_options(files: Mapping[str, Path], shown: Callable[[Path], str]) -> tuple[KnownConfiguration, ...]:
    """Read the options of the group ``known``, but for ``auto`` and ``none``.

    Args:
        files: by the option's name.
        shown: how a file is named to users.

    Raises:
        ConfigError: a file is not of the form; the message names it.
    """
    return tuple(parse_known(_load(file), shown(file)) for name, file in files.items() if name not in CHOICES)


def read_known_file(path: str, where: str) -> tuple[KnownConfiguration, ...]:
    """Read a user's file: one configuration, a list of them, or the form of the registry that this one replaces.

    Args:
        path: of the file.
        where: what named it.

    Raises:
        ConfigError: it cannot be read, or is not of any form.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"known.file={path} is no file", where=where, hint="name a YAML file")
    content = _load(file)
    if isinstance(content, Mapping) and "models" in content:
        content = converted(content["models"] or {}, str(file))
    items = content if isinstance(content, list) else [content] if content else []
    return tuple(parse_known(item, str(file)) for item in items)


def parse_known(content: Any, where: str) -> KnownConfiguration:
    """Read one configuration.

    Raises:
        ConfigError: it is not of the form.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} holds no mapping", hint=f"write {', '.join(FIELDS)}")
    name = str(content.get("name") or where)
    unknown = sorted(set(content) - set(FIELDS))
    if unknown:
        raise ConfigError(f"{where}: {name} has the unknown entry {unknown[0]}", hint=f"known are {', '.join(FIELDS)}")
    for entry in ("name", "match", "backends", "runtimes"):
        if not content.get(entry):
            raise ConfigError(f"{where}: {name} has no {entry}", hint=f"write {', '.join(FIELDS)}")
    if "model_type" not in content["match"]:
        raise ConfigError(f"{where}: {name} matches without model_type", hint="add it to match")
    runtimes = tuple(_runtime(runtime, name, where) for runtime in content["runtimes"])
    twice = next((held for place, held in enumerate(runtimes) if held in runtimes[:place]), None)
    if twice is not None:
        raise ConfigError(f"{where}: {name} has a runtime configuration twice: {dict(twice.values)}")
    backends, platforms = tuple(content["backends"]), tuple(content.get("platforms") or ())
    return KnownConfiguration(name, content["match"], runtimes, backends, platforms, where)


def unique(configs: Iterable[KnownConfiguration]) -> tuple[KnownConfiguration, ...]:
    """Return them as they are.

    Raises:
        ConfigError: two have one name.
    """
    found: dict[str, KnownConfiguration] = {}
    for config in configs:
        if config.name in found:
            raise ConfigError(
                f"known configuration {config.name} is in {found[config.name].where} and {config.where}",
                hint="rename one",
            )
        found[config.name] = config
    return tuple(found.values())


def _runtime(content: Any, name: str, where: str) -> Runtime:
    if not isinstance(content, Mapping) or not isinstance(content.get(TP_SIZE, 1), int):
        raise ConfigError(f"{where}: {name} has a runtime that is no mapping of keys", hint=f"write {TP_SIZE} and keys")
    values = {str(key): value for key, value in content.items() if key != TP_SIZE}
    return Runtime(content.get(TP_SIZE, 1), values)


def _load(file: Path) -> Any:
    try:
        # Two dozen files are read at every start, and libyaml reads them ten times as fast.
        return yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from None
