"""Known configurations: proven ways to run a model, and the pattern of the model that each is for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import yaml

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.files import parse_yaml, read_text, read_yaml
from sendnn_pipeline.known.registry_form import convert_models
from sendnn_pipeline.paths import expand_path

# Values of known.name that name no entry.
AUTO, NONE = CHOICES = ("auto", "none")
TP_SIZE = "tp_size"
# Keys that tell the runtimes of one entry apart.
SHAPES = "warmup.shapes"
IDENTIFYING = (SHAPES, "model.max_model_len", "scheduler.max_num_seqs")

NonEmpty = msgspec.Meta(min_length=1)


class Runtime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to run the model. In a file, ``tp_size`` and the values stand side by side."""

    tp_size: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Ranks."""
    values: dict[str, Any] = {}
    """What it sets, by dotted key of the configuration."""

    def identity(self) -> tuple[Any, ...]:
        """Return what tells this runtime from the others of its entry; the order of shapes does not count."""
        values = [self.values.get(key) for key in IDENTIFYING]
        return self.tp_size, *(frozenset(map(str, value)) if isinstance(value, list) else value for value in values)


class KnownConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's pattern and the known ways to run it; checked when it is made, in Python or from a file."""

    name: Annotated[str, NonEmpty]
    aliases: tuple[str, ...] = ()
    """Other models of the same pattern; ``known.name=`` accepts them, too."""
    match: dict[str, Any]
    """What the model's config.json must say. A list accepts each of its values; a null in it, a missing attribute."""
    backends: Annotated[tuple[str, ...], NonEmpty]
    platforms: tuple[str, ...] = ()
    """Machines as ``platform.machine()`` names them; empty stands for any."""
    runtimes: Annotated[tuple[Runtime, ...], NonEmpty]
    where: str = msgspec.field(default="", name="(where)")
    """File or registry that it comes from; set by the reader, never by a file."""

    def __post_init__(self) -> None:
        """Refuse what types cannot express.

        Raises:
            ValueError: the entry could never be chosen, or not for certain.
        """
        if "model_type" not in self.match:
            raise ValueError("match lacks model_type")
        missing = next(_null_attributes(self.match), None)
        if missing is not None:
            raise ValueError(f"match.{missing} is null; give it a value, or leave it out")
        reserved = next((name for name in self.names if name in CHOICES), None)
        if reserved is not None:
            raise ValueError(f"known.name={reserved} is reserved; choose another name")
        identities = [runtime.identity() for runtime in self.runtimes]
        repeated = next((index for index, one in enumerate(identities) if one in identities[:index]), None)
        if repeated is not None:
            raise ValueError(f"runtimes[{repeated}] repeats {TP_SIZE}, {', '.join(IDENTIFYING)} of an earlier one")

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return self.name, *self.aliases


class ConfigRegistry(Protocol):
    """More known configurations; what ``register_config_registries`` factories return."""

    def configs(self) -> Sequence[KnownConfiguration]:
        """Return all of them."""


def read_known(
    folder: Path, backend: str | None = None, display: Callable[[Path], str] = str
) -> tuple[KnownConfiguration, ...]:
    """Read every ``*.yaml`` of a folder such as ``conf/known``.

    Args:
        folder: may be missing.
        backend: skips files whose text does not mention it, without parsing them.
        display: how a file is named to users.

    Raises:
        ConfigError: a file is not of the form; the message names file and field.
    """
    configs = []
    for found in read_each(folder, backend, display):
        if isinstance(found, ConfigError):
            raise found
        configs.append(found)
    return tuple(configs)


def read_each(
    folder: Path, backend: str | None = None, display: Callable[[Path], str] = str
) -> Iterator[KnownConfiguration | ConfigError]:
    """Yield what every file of a folder says, or why one cannot be used; arguments as of ``read_known``."""
    for file in sorted(folder.glob("*.yaml")):
        try:
            text = _read(file)
            if backend is None or backend in text:
                yield parse_known(_parse(text, file), display(file))
        except ConfigError as error:
            yield error


def read_known_file(path: str, where: str) -> tuple[KnownConfiguration, ...]:
    """Read a user's file: one entry, a list of them, or the form of the registry that this one replaces.

    Args:
        path: of the file.
        where: what named it.

    Raises:
        ConfigError: it cannot be read, or is not of any form.
    """
    file = expand_path(path, "known.file", where)
    if not file.is_file():
        raise ConfigError(f"known.file={path} is not a file", where=where, hint="name a YAML file")
    content = read_yaml(file)
    if isinstance(content, Mapping) and "models" in content:
        content = convert_models(content["models"] or {}, str(file))
    entries = content if isinstance(content, list) else [content] if content else []
    return tuple(parse_known(entry, str(file)) for entry in entries)


def parse_known(content: Any, where: str) -> KnownConfiguration:
    """Decode one entry.

    Raises:
        ConfigError: it is not of the form; the message names ``where``, the entry and the field.
    """
    document, name = content, ""
    if isinstance(content, Mapping):
        name = f"{content['name']}: " if "name" in content else ""
        runtimes = content.get("runtimes")
        if isinstance(runtimes, list):
            document = {**content, "runtimes": [_split_runtime(runtime) for runtime in runtimes]}
    try:
        return msgspec.structs.replace(msgspec.convert(document, KnownConfiguration), where=where)
    except msgspec.ValidationError as error:
        fields = [field.encode_name for field in msgspec.structs.fields(KnownConfiguration) if field.name != "where"]
        raise ConfigError(f"{where}: {name}{error}", hint=f"an entry has {', '.join(fields)}") from None


def check_names(configs: Iterable[KnownConfiguration]) -> tuple[KnownConfiguration, ...]:
    """Return the entries unchanged.

    Raises:
        ConfigError: two share a name or an alias.
    """
    owners: dict[str, KnownConfiguration] = {}
    checked = tuple(configs)
    for config in checked:
        for name in config.names:
            if name in owners:
                raise ConfigError(
                    f"known configuration {name} is defined by {owners[name].where} and {config.where}",
                    hint="rename one",
                )
            owners[name] = config
    return checked


def _split_runtime(runtime: Any) -> Any:
    if not isinstance(runtime, Mapping):
        return runtime
    values = {key: value for key, value in runtime.items() if key != TP_SIZE}
    return {"values": values} | {key: runtime[key] for key in (TP_SIZE,) if key in runtime}


def _null_attributes(pattern: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in pattern.items():
        if isinstance(value, Mapping):
            yield from _null_attributes(value, f"{prefix}{key}.")
        elif value is None:
            yield f"{prefix}{key}"


def _read(file: Path) -> str:
    try:
        return read_text(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


def _parse(text: str, file: Path) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from None
