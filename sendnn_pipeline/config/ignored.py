"""Variables that a run ignores: retired ones, with what replaced them, and names that are not known."""

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from sendnn_pipeline.config.environment import KEY_PREFIX, OWN_PREFIX, OWN_VARIABLES, REGISTRY_PREFIX, RETIRED_FILE
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.files import read_yaml


class Retired(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a configuration folder's ``env/retired.yaml`` says."""

    prefixes: dict[str, str] = {}
    """The new prefix of variables that were renamed together."""
    replacements: dict[str, str] = {}
    """What replaced a variable that has no successor, in words; under its newest name."""

    def find_successor(self, variable: str) -> str | None:
        """Return the new name of a variable with a renamed prefix."""
        renamed = (new + variable.removeprefix(old) for old, new in self.prefixes.items() if variable.startswith(old))
        return next(renamed, None)

    def explain(self, variable: str, live: Collection[str]) -> str | None:
        """Return what replaced a variable, empty where nothing did; None where it was never retired.

        Args:
            variable: that is set.
            live: variables that are read.
        """
        successor = self.find_successor(variable)
        replacement = self.replacements.get(successor or variable)
        if replacement or successor is None:
            return replacement
        return f"it is now {successor}" if successor in live else nearest(successor, live)

    def find_former(self, environ: Mapping[str, str], live: Collection[str]) -> dict[str, str]:
        """Return the retired variables that are set while their successors are not: by successor."""
        former = {}
        for variable in live:
            names = [old + variable.removeprefix(new) for old, new in self.prefixes.items() if variable.startswith(new)]
            name = next((name for name in names if environ.get(name)), None)
            if name is not None and not environ.get(variable):
                former[variable] = name
        return former


def read_retired(conf_dirs: Mapping[str, Path]) -> Retired:
    """Read ``env/retired.yaml`` of every configuration folder.

    Raises:
        ConfigError: a file is not of the form, or two name one variable or prefix.
    """
    merged = Retired()
    for file in (folder / "env" / RETIRED_FILE for folder in conf_dirs.values()):
        if not file.is_file():
            continue
        try:
            one = msgspec.convert(read_yaml(file) or {}, Retired)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{file}: {error}", hint="it has prefixes and replacements") from None
        repeated = one.prefixes.keys() & merged.prefixes.keys() | one.replacements.keys() & merged.replacements.keys()
        if repeated:
            raise ConfigError(f"{file} retires {min(repeated)}, which another file does already", hint="remove one")
        merged = Retired(prefixes=merged.prefixes | one.prefixes, replacements=merged.replacements | one.replacements)
    return merged


def describe_ignored(
    environ: Mapping[str, str], live: Collection[str], retired: Retired, adopted: Mapping[str, str]
) -> list[str]:
    """Return a line for each variable of ours that is set and not read.

    Args:
        environ: the environment.
        live: variables of the registry and of plugins.
        retired: what replaced others.
        adopted: retired variables that are read as their successors, by successor.
    """
    lines = []
    known = [*live, *OWN_VARIABLES]
    former = {old: new for new, old in adopted.items()}
    for variable in sorted(environ):
        if variable in known or variable.startswith(KEY_PREFIX):
            continue
        replacement = retired.explain(variable, live)
        if variable in former:
            lines.append(f"{variable} is retired; its value is taken for {former[variable]}")
        elif replacement is not None:
            lines.append(_join(f"{variable} is retired and ignored", replacement))
        elif variable.startswith((REGISTRY_PREFIX, OWN_PREFIX)):
            lines.append(_join(f"unknown variable {variable} is ignored", nearest(variable, known)))
    return lines


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
