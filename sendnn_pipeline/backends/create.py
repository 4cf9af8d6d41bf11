"""From a backend's name to the backend: created with its options and checked against the contract."""

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.backends.contract import CONTRACT, check_backend, refuse_older
from sendnn_pipeline.backends.guard import GuardedBackend, blaming
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.errors import BackendError, PluginError
from sendnn_pipeline.hooks.manager import Plugins


def create_backend(plugins: Plugins, options: BackendConfig, *, where: str = "") -> CompileBackend:
    """Make the backend that the options name.

    Args:
        plugins: that are loaded.
        options: the backend's own.
        where: what chose it, for errors.

    Raises:
        ConfigError: nothing is registered under the name.
        PluginError: what is registered is not a backend; the message says what it lacks, or what changed.
    """
    registry = plugins.registry("register_compile_backends", "compile backend")
    entry = registry.entry(options.name, where=where, missing=plugins.missing())
    what = f"compile backend {options.name} of plugin {entry.owner}"
    refuse_older(entry.factory, what)
    try:
        with blaming(what, "be made of its options"):
            backend = entry.factory(options)
        with blaming(what, "tell its limits"):
            refuse_older(backend, what)
            checked = check_backend(backend, what)
    except BackendError as error:
        raise PluginError(error.message, hint=error.hint or CONTRACT) from error
    return GuardedBackend(checked, what, checked.name, checked.limits, checked.library, checked.own_cache)


def create_simple_backend(plugins: Plugins, name: str, *, where: str = "") -> CompileBackend:
    """Make the backend of helper Programs, with its own default options whatever the run's backend has.

    Raises:
        ConfigError: nothing is registered under the name.
        PluginError: what is registered is not a backend.
    """
    schemas = SchemaStore()
    plugins.collect("register_schemas", store=lambda _: schemas)
    schema = schemas.schemas.get(("backend", name), BackendConfig)
    return create_backend(plugins, schema(name=name), where=where)
