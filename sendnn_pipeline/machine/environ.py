"""The environment of this process: nothing else reads it, so that every value has one way in."""

import os
import sys
from collections.abc import Mapping

from sendnn_pipeline.errors import BackendError


def process_environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)  # noqa: TID251  the one place that reads it


def too_late(library: str, variables: Mapping[str, str]) -> BackendError | None:
    """Return an error where ``library`` reads its environment at its import, is imported, and has not found these."""
    if library not in sys.modules:
        return None
    environ = process_environment()
    late = next((name for name, text in variables.items() if environ.get(name) != text), None)
    if late is None:
        return None
    return BackendError(
        f"{library} is imported already, and {late}={variables[late]} would come too late",
        hint="start the engine in a new process, before anything imports it; a process has one such engine",
    )


def extend_environment(variables: Mapping[str, str]) -> None:
    """Set variables of this process, for libraries that are imported into it."""
    os.environ.update(variables)  # noqa: TID251  for an engine, whose libraries read it
