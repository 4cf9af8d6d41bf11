"""Whether an option's file begins with the schema that types its keys."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sendnn_pipeline.config.options import SCHEMA_SUFFIX
from sendnn_pipeline.config.schemas import OBSERVE, SchemaStore, keys_of
from sendnn_pipeline.errors import ConfigError

# The keys of every engine are there at once, and observers have no files.
TYPED_AS_A_WHOLE = ("engine", OBSERVE)


def find_untyped(
    merged: Iterable[str], files: Mapping[str, tuple[Path, Mapping[str, Any]]], schemas: SchemaStore
) -> ConfigError | None:
    """Return the error for an option whose schema is not in its defaults list, or comes behind its own keys.

    Args:
        merged: names of options and schemas, ``GROUP/NAME``, in the order in which they are merged.
        files: by such a name, an option's file and what it sets.
        schemas: of all options.
    """
    typed: dict[str, dict[str, Any]] = {}
    begun = set[str]()
    for path in merged:
        group, _, name = path.partition("/")
        schema = schemas.schemas.get((group, name.removesuffix(SCHEMA_SUFFIX)))
        if schema is not None and path not in files:
            typed.setdefault(group, {}).update(keys_of(schema, group))
            begun.add(path)
        if path not in files or group in TYPED_AS_A_WHOLE:
            continue
        file, values = files[path]
        if (group, name) in schemas.schemas:
            if f"{path}{SCHEMA_SUFFIX}" not in begun:
                return _untyped(file, f"{group}={name} has keys of its own", name)
            continue
        for key in values:
            owners = [] if key in typed.get(group, {}) else schemas.owners(key)
            if owners and key.startswith(f"{group}."):
                return _untyped(file, f"{key} is a key of {' and '.join(owners)}", owners[0].partition("=")[2])
    return None


def _untyped(file: Path, why: str, name: str) -> ConfigError:
    line = f"defaults: [{name}{SCHEMA_SUFFIX}, _self_]"
    return ConfigError(f"{file} does not begin with the schema of its keys: {why}", hint=f"begin it with '{line}'")
