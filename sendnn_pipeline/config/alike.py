"""What machines that run the same have alike, key by key; some keys are each machine's own."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

MISSING = "missing"


def flat_keys(config: Any, groups: Iterable[str], own: Iterable[str] = ()) -> dict[str, str]:
    """Return the values of a configuration's groups as JSON, by their keys.

    Args:
        config: a dataclass of groups.
        groups: that are compared.
        own: keys that each machine has for itself.
    """
    found = (item for group in groups for item in _flat(getattr(config, group), group))
    left_out = frozenset(own)
    return {key: value for key, value in found if key not in left_out}


def first_difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return the first key whose values differ, with ours and theirs; None where all are alike."""
    for name in (*ours, *(other for other in theirs if other not in ours)):
        here, there = ours.get(name, MISSING), theirs.get(name, MISSING)
        if here != there:
            return name, here, there
    return None


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if not is_dataclass(value):
        yield prefix, json.dumps(value, default=str, sort_keys=True)
        return
    for item in fields(value):
        yield from _flat(getattr(value, item.name), f"{prefix}.{item.name}")
