"""The keys of a schema: their types, and how text becomes a value of each."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from sendnn_pipeline.config.schema import RunConfig

_DECODER_OF_TYPE: dict[Any, str] = {
    bool: "bool",
    bool | None: "bool",
    int: "int",
    int | None: "int",
    float: "float",
    float | None: "float",
    str: "text",
    str | None: "text",
    list[int]: "int_list",
    list[int] | None: "int_list",
    list[str]: "text_list",
    list[str] | None: "text_list",
    Any: "shapes",
}


def keys_of(schema: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of every leaf of a dataclass by dotted key."""
    keys: dict[str, Any] = {}
    hints = get_type_hints(schema)
    for entry in fields(schema):
        key = f"{prefix}.{entry.name}" if prefix else entry.name
        kind = hints[entry.name]
        if is_dataclass(kind):
            keys.update(keys_of(kind, key))  # type: ignore[arg-type]
        else:
            keys[key] = kind
    return keys


def decoders_of_keys(groups: Iterable[str], schemas: Mapping[tuple[str, str], type]) -> dict[str, str]:
    """Return the decoder of every key and group, typed options of plugins included."""
    types = keys_of(RunConfig)
    for (group, _), schema in schemas.items():
        types.update(keys_of(schema, group))
    # Mappings are for files: no variable and no single word says one.
    decoders = {key: _DECODER_OF_TYPE[kind] for key, kind in types.items() if kind in _DECODER_OF_TYPE}
    return decoders | dict.fromkeys(groups, "name")
