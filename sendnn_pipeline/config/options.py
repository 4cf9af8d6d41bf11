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

        Raises:
            PluginError: two providers have an option of one name.
        """
        found: dict[str, dict[str, Path]] = {PROFILE: {}}
        for folder in self.folders.values():
            for file in sorted(folder.glob("*/*.yaml")):
                group, option = file.parent.name, file.stem
                if group in NOT_GROUPS:
                    continue
                options = found.setdefault(group, {})
                if option in options:
                    raise PluginError(
                        f"option {group}={option} is defined by {options[option]} and {file}",
                        hint="rename one, or keep its plugin out with SENDNN_PIPELINE_PLUGINS_DENY",
                    )
                options[option] = file
        return found

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
