"""The hooks a plugin can implement. pluggy project and entry-point group: ``sendnn_pipeline``.

Names are registered through callbacks, and two claims on one name are an error that names both. Observers return
nothing. Nobody edits the configuration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run
    from sendnn_pipeline.messages import StageEvent

PROJECT = "sendnn_pipeline"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[[str, Callable[..., Any]], None]


class ConfigSpecs:
    """What a run can be described with."""

    @hookspec
    def config_paths(self) -> Path:  # type: ignore[empty-body]
        """Return a ``conf/`` folder of options and ``env/`` rows that joins the search path."""

    @hookspec
    def register_schemas(self, store: Callable[[str, str, type], None]) -> None:
        """Call ``store(group, name, schema)`` for each frozen dataclass that types an option.

        Of the group ``observe`` there are no files: the schema's keys are ``observe.<name>.<key>``. Elsewhere the
        option's file then starts with ``defaults: [{name}_schema, _self_]``; an engine's need not. Without a name
        the schema types every option of the group.
        """

    @hookspec
    def check_config(self, run: "Run") -> list[str]:  # type: ignore[empty-body]
        """Return what of ``run`` this plugin cannot do, each as one line that names the key and the remedy."""


class RegistrySpecs:
    """Names that a run can choose. A factory is called once, when its name is chosen."""

    @hookspec
    def register_compile_backends(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory takes the backend's options and returns a ``CompileBackend``.

        The type is in ``backends.base``.
        """

    @hookspec
    def register_engines(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory returns an ``engines.base.Engine``."""

    @hookspec
    def register_endpoints(self, register: Callable[[str, str, Any], None]) -> None:
        """Call ``register(engine, path, endpoint)`` for each route; the type is ``frontend.endpoint.Endpoint``."""

    @hookspec
    def register_model_sources(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory returns a ``models.sources.ModelSource``."""

    @hookspec
    def register_config_registries(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory returns a ``known.entry.ConfigRegistry``."""

    @hookspec
    def register_multimodal_devices(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory returns a ``multimodal.devices.MultimodalDevice``."""

    @hookspec
    def register_multimodal_adapters(self, register: Register) -> None:
        """Call ``register(model_type, factory)``; the factory returns a ``multimodal.adapters.ImageAdapter``."""

    @hookspec
    def register_serve_targets(self, register: Register) -> None:
        """Call ``register(name, factory)``; the factory returns a ``frontend.target.ServeTarget``."""


class ObserverSpecs:
    """What happens, as it happens; called in the process that runs the pipeline, in the order of events.

    An observer's own options, stored as ``store("observe", name, schema)``, are ``run.config.observe.<name>``.
    """

    @hookspec
    def stage_started(self, event: "StageEvent", run: "Run") -> None:
        """Observe that a stage, or a Program within it, began."""

    @hookspec
    def stage_finished(self, event: "StageEvent", run: "Run") -> None:
        """Observe that a stage, or a Program within it, ended well; ``event.seconds`` says after how long."""

    @hookspec
    def stage_failed(self, event: "StageEvent", run: "Run") -> None:
        """Observe that a stage failed; ``event.detail`` says why."""

    @hookspec
    def register_metrics(self, registry: Any, run: "Run") -> None:
        """Add collectors to the ``prometheus_client.CollectorRegistry`` behind ``/metrics``."""


SPECS = (ConfigSpecs, RegistrySpecs, ObserverSpecs)
HOOKS = tuple(name for spec in SPECS for name in vars(spec) if not name.startswith("_"))
