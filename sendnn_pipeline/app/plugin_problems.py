"""What is wrong with plugins that are loaded, whichever run they are for."""

from collections.abc import Callable, Iterable, Iterator

from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.endpoints import find_homeless
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.config.layers import AUTO
from sendnn_pipeline.config.options import NOT_GROUPS, OptionTree
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.hooks.manager import PluginProblem
from sendnn_pipeline.hooks.names import is_name

# What registers names, by hook.
NOUNS = {
    "register_compile_backends": "compile backend",
    "register_engines": "engine",
    "register_model_sources": "model source",
    "register_config_registries": "config registry",
    "register_serve_targets": "serve target",
    "register_multimodal_devices": "multimodal device",
    "register_multimodal_adapters": "multimodal adapter",
}


def find_plugin_problems(context: AppContext) -> list[PluginProblem]:
    """Return what of loaded plugins no run can use; a hook that fails makes its plugin a failure.

    Of a conflict between two of them the plugin is empty: the line names both.
    """
    plugins = context.plugins
    checks: list[Callable[[], Iterable[PluginProblem]]] = [
        *(lambda hook=hook, noun=noun: _none(plugins.registry(hook, noun)) for hook, noun in NOUNS.items()),
        lambda: find_homeless(plugins),
        lambda: _unchoosable(context.tree),
        lambda: collect_known(context, None, "").problems,
    ]
    return [problem for check in checks for problem in _tried(check)]


def _tried(check: Callable[[], Iterable[PluginProblem]]) -> Iterator[PluginProblem]:
    try:
        yield from check()
    except PipelineError as error:
        yield PluginProblem("", str(error))


def _unchoosable(tree: OptionTree) -> Iterator[PluginProblem]:
    for provider, folder in tree.folders.items():
        for file in sorted(folder.glob("*/*.yaml")):
            if file.parent.name not in NOT_GROUPS and not is_name(file.stem) and file.stem != AUTO:
                yield PluginProblem(provider, f"{file} is no option that can be chosen: a name is a word such as acme")


def _none(_: object) -> Iterable[PluginProblem]:
    return ()
