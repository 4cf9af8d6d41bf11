"""The folders of configuration options: which groups and options exist."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ConfigError, PluginError

PRIMARY = "config"
SCHEMA_SUFFIX = "_schema"
# Folders of data beside the groups.
NOT_GROUPS = ("env", "known")
# The group whose option is laid over all the others.
PROFILE = "profile"


def own_conf_dir() -> Path:
    """Return our ``conf/``: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / f"{PRIMARY}.yaml").is_file():
            return candidate
    raise ConfigError(f"no conf/{PRIMARY}.yaml beside or inside {package}", hint="reinstall sendnn_pipeline")


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested mappings as dotted key and value."""
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping) and value:
            yield from flatten(value, key)
        else:
            yield key, value


@dataclass(frozen=True)
class OptionTree:
    """Every configuration folder, ours and the plugins'."""

    own: Path
    """Our ``conf/``."""
    folders: Mapping[str, Path]
    """All folders, ours included, by the name of their provider."""

    @cached_property
    def groups(self) -> dict[str, dict[str, Path]]:
        """The file of every option of every group; the group of profiles is there without any, too.

        Folders of other groups than ours are not among them: what they hold would be keys that there are not.

        Raises:
            PluginError: two providers have an option of one name.
        """
        ours = {file.parent.name for file in self.own.glob("*/*.yaml")}
        found: dict[str, dict[str, Path]] = {group: {} for group in sorted({*ours, PROFILE} - {*NOT_GROUPS})}
        for folder in self.folders.values():
            for file in sorted(folder.glob("*/*.yaml")):
                group, option = file.parent.name, file.stem
                if group not in found:
                    continue
                options = found[group]
                if option in options:
                    raise PluginError(
                        f"option {group}={option} is defined by {options[option]} and {file}",
                        hint="rename one, or keep its plugin out with SENDNN_PIPELINE_PLUGINS_DENY",
                    )
                options[option] = file
        return found

    def stranger(self, group: str) -> Path | None:
        """Return a folder that would be a group's, if there were such a group."""
        folders = () if group in (*self.groups, *NOT_GROUPS) else (folder / group for folder in self.folders.values())
        return next(filter(os.path.isdir, folders), None)

    def find(self, path: str) -> Path | None:
        """Return the file of ``GROUP/OPTION`` in the first folder that has it, as Hydra searches."""
        return self._find(f"{path}.yaml")

    def find_other(self, path: str) -> Path | None:
        """Return a file of ``GROUP/OPTION`` with the other ending of YAML, which nothing reads."""
        return self._find(f"{path}.yml")

    def _find(self, name: str) -> Path | None:
        files = (folder / name for folder in self.folders.values())
        # A name that no file system takes is no file's; pathlib raises of one.
        return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113

    def display(self, file: Path) -> str:
        """Name an option's file: ours from ``conf/`` on, others in full."""
        return f"conf/{file.relative_to(self.own)}" if file.is_relative_to(self.own) else str(file)
