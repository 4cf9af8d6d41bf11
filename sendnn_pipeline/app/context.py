"""The configuration with every plugin joined: what this process can be asked to run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sendnn_pipeline.backends.sendnn.versions import is_here
from sendnn_pipeline.config.command_line import CommandLine, Override, parse_command_line
from sendnn_pipeline.config.compose import store_schemas, typed_node
from sendnn_pipeline.config.decode import GROUP
from sendnn_pipeline.config.description import RunDescription
from sendnn_pipeline.config.environment import (
    CONFIG_DIR,
    OWN_PREFIX,
    REGISTRY_PREFIX,
    EnvRow,
    EnvValue,
    read_environment,
    read_rows,
    unknown_keys,
)
from sendnn_pipeline.config.exact_words import exact_words
from sendnn_pipeline.config.foreign_flags import unknown_flag
from sendnn_pipeline.config.ignored import describe_ignored, read_retired
from sendnn_pipeline.config.kubernetes import without_services
from sendnn_pipeline.config.layers import Choice, LayeredConfig, compose_layers
from sendnn_pipeline.config.options import OptionTree
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.config.unread import find_unread
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.hooks.manager import CONFIG_PLUGIN, Plugins
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.paths import expand_path

FLAG = "--config-dir"


@dataclass(frozen=True)
class AppContext:
    """Plugins, options, environment and schemas of this process."""

    environ: Mapping[str, str]
    plugins: Plugins
    tree: OptionTree
    schemas: SchemaStore
    rows: Mapping[str, EnvRow]
    env: Sequence[EnvValue]
    warnings: Sequence[str]
    description: RunDescription | None = None
    """What the command line and the environment say; None without a command line."""

    def compose(self, overrides: Sequence[Override]) -> LayeredConfig:
        """Compose the layers for one command line without sweeps.

        Raises:
            ConfigError: the overrides do not compose.
        """
        try:
            return compose_layers(self.tree, self.schemas, overrides, self.env, {"backend": auto_backend()})
        except ConfigError as error:
            # An option may be unknown because its plugin is not loaded.
            missing = self.plugins.missing() if error.message.startswith("unknown option") else ""
            if missing:
                raise ConfigError(error.message, where=error.where, hint=f"{error.hint}; {missing}") from None
            raise


def load_command_line(argv: Sequence[str], *, takes_names: bool = False) -> tuple[AppContext, CommandLine]:
    """Read a command line, and what it can ask for in this process's environment.

    Args:
        argv: without the program's name and that of a tool.
        takes_names: whether words without ``=`` may be among them.

    Raises:
        ConfigError: as ``load_context``; or a flag is unknown, or a word is not an override.
    """
    command = parse_command_line(argv, takes_names=takes_names)
    context = load_context(process_environment(), command.flags.config_dir)
    keys = context.schemas.keys()
    if command.flags.unknown:
        raise unknown_flag(command.flags.unknown, keys)
    words = tuple(override.text for override in command.overrides)
    described = RunDescription(words, command.flags.config_dir, _of_runs(context))
    context = replace(context, description=described)
    return context, replace(command, overrides=exact_words(command.overrides, keys))


def _of_runs(context: AppContext) -> dict[str, str]:
    """Return the variables that say something of a run."""
    prefixes = (REGISTRY_PREFIX, OWN_PREFIX)
    return {name: text for name, text in context.environ.items() if name in context.rows or name.startswith(prefixes)}


def load_context(
    environ: Mapping[str, str], config_dir: str | None = None, *, adopt_retired: bool = False
) -> AppContext:
    """Load plugins, join their options and types, and decode the environment.

    Args:
        environ: the environment.
        config_dir: one more folder of options, the user's own.
        adopt_retired: read a renamed variable as its successor where that is not set, instead of ignoring it.

    Raises:
        ConfigError: a variable does not decode, or ``config_dir`` is not a folder.
        PluginError: two plugins have one name for different things.
    """
    environ, of_services = without_services(environ)
    plugins = load_plugins(environ)
    schemas = SchemaStore(check=typed_node)
    plugins.collect("register_schemas", store=lambda _: schemas)
    # Of those whose types are known: an option without its type would not compose.
    folders = _config_folders(plugins)
    own = folders[CONFIG_PLUGIN]
    folders |= _own_folder(config_dir, environ.get(CONFIG_DIR))
    tree = OptionTree(own, folders)
    store_schemas(schemas)
    (rows, of_rows), retired = read_rows(folders), read_retired(folders)
    adopted = retired.find_former(environ, rows) if adopt_retired else {}
    types = types_of(schemas, tree)
    unread = [line for folder in folders.values() if folder != own for line in find_unread(folder, tree.groups)]
    env, warnings = read_environment(environ, rows, types, adopted)
    ignored = describe_ignored(environ, rows, retired, adopted)
    failed = [f"plugin {f.name} ({f.distribution}) is not loaded: {f.reason}" for f in plugins.failures]
    return AppContext(
        environ,
        plugins,
        tree,
        schemas,
        rows,
        env,
        (*failed, *unread, *of_rows, *unknown_keys(rows, types), *warnings, *of_services, *ignored),
    )


def _own_folder(flag: str | None, variable: str | None) -> dict[str, Path]:
    """Return the user's folder of options; the flag counts before the variable."""
    text, name = (flag, FLAG) if flag is not None else (variable, CONFIG_DIR)
    if not text:
        return {}
    folder = expand_path(text, name)
    if not folder.is_dir():
        raise ConfigError(f"{name}={text} is not a folder", hint="name a folder of config groups")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{name}={text} cannot be read by this user", hint="let it read the folder and what is in it")
    return {FLAG: folder}


def _config_folders(plugins: Plugins) -> dict[str, Path]:
    folders = {}
    found = plugins.collect("config_paths")
    for name in plugins.names("config_paths"):
        path = found.get(name)
        if not isinstance(path, str | Path) or not Path(path).is_dir():
            plugins.fail(name, f"config_paths failed: {path} is not a folder")
        elif name == CONFIG_PLUGIN or _has_usable_rows(plugins, name, Path(path)):
            folders[name] = Path(path)
    return folders


def _has_usable_rows(plugins: Plugins, name: str, folder: Path) -> bool:
    """Return whether the rows of a plugin's folder can be read; where they cannot, the plugin fails, and no other."""
    try:
        read_rows({name: folder})
    except ConfigError as error:
        plugins.fail(name, str(error))
        return False
    return True


def types_of(schemas: SchemaStore, tree: OptionTree) -> dict[str, Any]:
    """Return the type of every key, and of every group."""
    return schemas.keys() | dict.fromkeys(tree.groups, GROUP)


def auto_backend() -> Choice:
    """Return the backend that ``backend=auto`` takes on this machine, and why."""
    if is_here():
        return Choice("sendnn", "auto: torch_sendnn is importable")
    return Choice("inductor", "auto: torch_sendnn is not importable")
