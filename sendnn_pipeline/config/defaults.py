"""The lowest layer: what the types of a configuration say where nobody says anything."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from sendnn_pipeline.config.options import flatten
from sendnn_pipeline.config.schema import RunConfig


def schema_defaults(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a run's types, by key.

    Args:
        schemas: of the options that are chosen, by group.
    """
    values: dict[str, Any] = asdict(RunConfig())
    for group, schema in schemas.items():
        if isinstance(schema, type) and is_dataclass(schema):
            values[group] = asdict(schema())
    return dict(flatten(values))
