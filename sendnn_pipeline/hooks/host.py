"""The configuration with every plugin joined: what this process can be asked to run."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sendnn_pipeline.config.command_line import Word
from sendnn_pipeline.config.compose import SchemaStore, store_schemas
from sendnn_pipeline.config.environment import EnvRow, EnvValue, read_environment, read_rows
from sendnn_pipeline.config.keys import decoders_of_keys
from sendnn_pipeline.config.known import KnownConfiguration, read_known_file, read_options, unique
from sendnn_pipeline.config.layers import Layered, layer, shown_file
from sendnn_pipeline.config.options import OptionTree
from sendnn_pipeline.errors import ConfigError, PipelineError
from sendnn_pipeline.hooks.manager import CONFIG_PLUGIN, Plugins, load_plugins


@dataclass(frozen=True)
class Host:
    """Plugins, options, environment and registries of this process."""

    environ: Mapping[str, str]
    plugins: Plugins
    ours: Path
    tree: OptionTree
    rows: Mapping[str, EnvRow]
    env: Sequence[EnvValue]
    warnings: Sequence[str]

    def layer(self, words: Sequence[Word]) -> Layered:
        """Compose the layers for one command line without sweeps.

        Raises:
            ConfigError: the words do not compose.
        """
        return layer(self.tree, self.ours, words, self.env, {"backend": auto_backend()})

    def known(self, file: str | None, where: str) -> tuple[tuple[KnownConfiguration, ...], tuple[str, ...]]:
        """Return every known configuration, of option files, of registries and of the user's file; and what failed.

        Args:
            file: ``known.file``.
            where: what set it.

        Raises:
            ConfigError: one is not of the form, or two have one name.
        """
        found, problems = (
            list(read_options(self.tree.groups().get("known", {}), partial(shown_file, ours=self.ours))),
            [],
        )
        registries = self.plugins.registry("register_config_registries", "config registry")
        for name, entry in registries.entries.items():
            try:
                found += entry.factory().configs()
            except PipelineError:
                raise
            except Exception as error:
                # Whatever else the plugin gives goes on; what is known elsewhere, too.
                problems.append(
                    f"config registry {name} of plugin {entry.owner} failed: {type(error).__name__}: {error}"
                )
        found += read_known_file(file, where) if file else ()
        return unique(found), tuple(problems)


def open_host(environ: Mapping[str, str], config_dir: str | None = None) -> Host:
    """Load plugins, join their options and types, and decode the environment.

    Args:
        environ: the environment.
        config_dir: one more folder of options, the user's own.

    Raises:
        ConfigError: a variable does not decode, or ``config_dir`` is no folder.
        PluginError: two plugins claim one name.
    """
    plugins = load_plugins(environ)
    folders = {name: Path(path) for name, path in plugins.collect("config_paths").items()}
    ours = folders[CONFIG_PLUGIN]
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir} is no folder", hint="name a folder of config groups")
        folders["--config-dir"] = Path(config_dir).absolute()
    tree = OptionTree(folders)
    store = SchemaStore()
    plugins.collect("register_schemas", store=lambda _: store)
    store_schemas(store.schemas)
    rows = read_rows(tree.conf_dirs)
    env, warnings = read_environment(environ, rows, decoders_of_keys(tree.groups(), store.schemas))
    failed = [f"plugin {f.name} ({f.distribution}) is not loaded: {f.reason}" for f in plugins.failures]
    return Host(environ, plugins, ours, tree, rows, env, (*failed, *warnings))


def auto_backend() -> tuple[str, str]:
    """Return the backend that ``backend=auto`` takes on this machine, and why."""
    if importlib.util.find_spec("torch_sendnn") is not None:
        return "sendnn", "auto: torch_sendnn is importable"
    return "inductor", "auto: torch_sendnn is not importable"
