"""Known configurations of every source: folders of options, plugins' registries, the user's file."""

from dataclasses import dataclass

from sendnn_pipeline.app.context import FLAG, AppContext
from sendnn_pipeline.errors import ConfigError, PluginError
from sendnn_pipeline.hooks.manager import CONFIG_PLUGIN, PluginProblem, Plugins
from sendnn_pipeline.hooks.timeout import one_line
from sendnn_pipeline.known.entry import KnownConfiguration, check_names, read_each, read_known_file


@dataclass(frozen=True)
class KnownSources:
    """What is known, and what could not be read."""

    configs: tuple[KnownConfiguration, ...]
    problems: tuple[PluginProblem, ...]


def collect_known(context: AppContext, file: str | None, where: str, backend: str | None = None) -> KnownSources:
    """Read the known configurations of ``known/`` folders, of registries and of the user's file.

    Args:
        context: plugins and folders.
        file: ``known.file``.
        where: what set it.
        backend: skips files of ``known/`` folders that do not mention it.

    Raises:
        ConfigError: one of ours or of the user's is not of the form, or two have one name.
    """
    configs: list[KnownConfiguration] = []
    problems: list[PluginProblem] = []
    for provider, folder in context.tree.folders.items():
        for read in read_each(folder / "known", backend, context.tree.display):
            if isinstance(read, KnownConfiguration):
                configs.append(read)
            elif provider in (CONFIG_PLUGIN, FLAG):
                raise read
            else:
                message = f"a known configuration of plugin {provider} is left out: {read}"
                problems.append(PluginProblem(provider, message))
    registered, failed = _of_registries(context.plugins)
    configs += [*registered, *(read_known_file(file, where) if file else ())]
    return KnownSources(check_names(configs), (*problems, *failed))


def _of_registries(plugins: Plugins) -> tuple[list[KnownConfiguration], list[PluginProblem]]:
    configs: list[KnownConfiguration] = []
    problems: list[PluginProblem] = []
    for name, entry in plugins.registry("register_config_registries", "config registry").entries.items():
        try:
            found = list(entry.factory().configs())
            others = [repr(one) for one in found if not isinstance(one, KnownConfiguration)]
            if others:
                raise TypeError(f"{others[0]} is not a KnownConfiguration")
            configs += found
        except PluginError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, ConfigError) else one_line(error)
            message = f"config registry {name} of plugin {entry.owner} failed: {reason}"
            problems.append(PluginProblem(entry.owner, message))
    return configs, problems
