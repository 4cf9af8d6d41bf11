"""The folders of configuration options: which groups and options exist, and which keys an option's file sets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sendnn_pipeline.errors import ConfigError, PluginError, nearest

PRIMARY = "config"
SCHEMA_SUFFIX = "_schema"
NOT_GROUPS = ("env",)


def conf_dir() -> Path:
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
    """Every configuration folder, by the name of its provider; ours and the plugins'."""

    conf_dirs: Mapping[str, Path]

    def groups(self) -> dict[str, dict[str, Path]]:
        """Return the file of every option of every group.

        Raises:
            PluginError: two providers have an option of one name.
        """
        found: dict[str, dict[str, Path]] = {}
        for folder in self.conf_dirs.values():
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

    def default_options(self, ours: Path) -> dict[str, str]:
        """Return the option of each group that ``config.yaml`` in ``ours`` takes unless told otherwise."""
        entries = yaml.safe_load((ours / f"{PRIMARY}.yaml").read_text())["defaults"]
        groups = self.groups()
        return {
            group: str(option)
            for entry in entries
            if isinstance(entry, dict)
            for group, option in entry.items()
            if group in groups and option is not None
        }

    def values(self, group: str, option: str) -> dict[str, tuple[Any, Path]]:
        """Return what choosing ``group=option`` sets: value and file by key.

        Raises:
            ConfigError: there is no such option, or its file is no YAML mapping.
        """
        options = self.groups().get(group, {})
        if option not in options:
            raise ConfigError(f"{group}={option} is no option", hint=nearest(option, options))
        file = options[option]
        try:
            content = yaml.safe_load(file.read_text()) or {}
            parents = content.pop("defaults", [])
        except (yaml.YAMLError, AttributeError, OSError) as error:
            raise ConfigError(f"{file} is not readable as a configuration option: {error}") from None
        values: dict[str, tuple[Any, Path]] = {}
        for parent in parents:
            if isinstance(parent, str) and parent in options and parent != option:
                values.update(self.values(group, parent))
            elif isinstance(parent, dict):
                chosen = {str(key).rpartition("/")[2]: value for key, value in parent.items() if "override" in str(key)}
                values.update({key: (value, file) for key, value in chosen.items()})
        package = "" if file.read_text().lstrip().startswith("# @package _global_") else group
        values.update({key: (value, file) for key, value in flatten(content, package)})
        return values
