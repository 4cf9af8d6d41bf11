"""Whether the chosen options say which registered part each of them stands for."""

from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.options import SCHEMA_SUFFIX, OptionTree
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.manager import Plugins

# By group: the key that names what is registered, and where it is.
NAMING = {
    "backend": ("backend.name", "register_compile_backends"),
    "engine": ("engine.name", "register_engines"),
    "serve": ("serve.target", "register_serve_targets"),
}

# The one that an option of a user's own is likely for.
BACKEND = "inductor"


def check_named(plugins: Plugins, tree: OptionTree, schemas: SchemaStore, draft: Draft) -> None:
    """Refuse an option that names no part, where the group's default would run, or one whose keys are another's.

    Raises:
        ConfigError: the file and the line that it lacks, or the option to choose.
        PluginError: two plugins registered one name.
    """
    for group, (key, hook) in NAMING.items():
        option, parts = draft.choices.get(group, ""), plugins.registry(hook, group).entries
        # No backend is there by default.
        if draft.layer(key) == Layer.DEFAULT and (option in parts or group == "backend"):
            file, name = tree.find(f"{group}/{option}"), key.rpartition(".")[2]
            raise ConfigError(
                f"{group}={option} does not set {key}, and would run {draft[key]}",
                where=str(file or ""),
                hint=f"add the line '{name}: {option if option in parts else BACKEND}' to its file",
            )
        part = draft[key]
        schema = schemas.schemas.get((group, part), object)
        # Which engine runs may be decided later, and its keys with it.
        if group != "engine" and not issubclass(draft.schemas[group], schema):
            raise ConfigError(
                f"{key}={part} has keys of its own, and the run has those of {group}={option}",
                where=draft.where(key),
                hint=f"choose {group}={part}, or begin the option's file with "
                f"'defaults: [{part}{SCHEMA_SUFFIX}, _self_]'",
            )
