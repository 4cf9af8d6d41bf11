"""The environment of this process: nothing else reads it, so that every value has one way in."""

import os
from collections.abc import Mapping


def process_environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)  # noqa: TID251  the one place that reads it


def extend_environment(variables: Mapping[str, str]) -> None:
    """Set variables of this process, for libraries that are imported into it."""
    os.environ.update(variables)  # noqa: TID251  for an engine, whose libraries read it
