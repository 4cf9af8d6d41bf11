"""From words to a resolved run: compose, find the model, resolve, and let the backend and the plugins check it."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.check import check_description
from sendnn_pipeline.config.command_line import Word
from sendnn_pipeline.config.known import CHOICES
from sendnn_pipeline.config.known_layer import Place, with_known
from sendnn_pipeline.config.layers import Layered, Provenance
from sendnn_pipeline.config.model_facts import read_config_json, read_model_facts
from sendnn_pipeline.config.resolve import Resolved, Run, cache_dir_of, resolve
from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError, PluginError
from sendnn_pipeline.hooks.host import Host
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.models.sources import ModelSource
from sendnn_pipeline.pipeline.choose import choose_shapes

BACKEND_PARTS = (
    "compile",
    "embeds_weights",
    "fingerprint",
    "limits",
    "load",
    "name",
    "portable",
    "prepare",
    "save",
)


@dataclass(frozen=True)
class Described:
    """The words composed, with the place of the model; not read yet."""

    layered: Layered
    source: ModelSource
    source_name: str
    cache_dir: Path

    @property
    def model(self) -> ModelConfig:
        """What is to be loaded."""
        return self.layered.composed.run.model


def describe(host: Host, words: Sequence[Word]) -> Described:
    """Compose ``words`` and choose the model's source.

    Raises:
        ConfigError: they do not compose, or no source claims the model.
    """
    return describe_layered(host, host.layer(words))


def describe_layered(host: Host, layered: Layered) -> Described:
    """Choose the source of the model of words that are composed already.

    Raises:
        ConfigError: a value is wrong, or no source claims the model.
    """
    check_description(layered.composed.run, layered.provenance)
    name, source = _source(host.plugins, layered.composed.run.model, layered.provenance)
    return Described(layered, source, name, cache_dir_of(layered.composed.run, dict(host.environ)))


def _source(plugins: Plugins, model: ModelConfig, provenance: Provenance) -> tuple[str, ModelSource]:
    sources = plugins.registry("register_model_sources", "model source")
    if model.source != "auto":
        where = provenance.where("model.source")
        return model.source, sources.create(model.source, where=where, missing=plugins.missing())
    claims = {name: source for name, source in sources.values().items() if source.claims(model.path)}
    if len(claims) != 1:
        what = "is claimed by " + " and ".join(sorted(claims)) if claims else "is no folder, hub id or package"
        raise ConfigError(
            f"model.path={model.path} {what}",
            where=provenance.where("model.path"),
            hint="say which with model.source=" if claims else "a package is written name==version",
        )
    return next(iter(claims.items()))


def read_and_resolve(host: Host, described: Described, folder: Path) -> tuple[Resolved, CompileBackend]:
    """Read the model's facts, resolve, and ask backend and plugins whether the run can work.

    Raises:
        PipelineError: it cannot; the message says why.
    """
    layered = _known(host, described.layered, folder)
    given, where = layered.composed.run, layered.provenance.where
    backends = host.plugins.registry("register_compile_backends", "compile backend")
    missing = host.plugins.missing()
    backend = backends.create(given.backend.name, where=where("backend.name"), missing=missing)
    lacking = [name for name in BACKEND_PARTS if not hasattr(backend, name)]
    if lacking:
        owner = backends.entries[given.backend.name].owner
        raise PluginError(
            f"compile backend {given.backend.name} of plugin {owner} lacks {', '.join(lacking)}",
            hint="see CompileBackend in sendnn_pipeline/backends/base.py",
        )
    facts = read_model_facts(folder)
    choose = partial(choose_shapes, backend, facts, described.cache_dir, where("warmup.trace"))
    limits = backend.limits(given)
    resolved = resolve(layered, facts, described.cache_dir, choose, can_stream=limits.streams, dtypes=limits.dtypes)
    run, where = resolved.run, resolved.provenance.where
    simple = backends.create(run.config.backend.simple, where=where("backend.simple"), missing=missing)
    if not simple.limits(run.config).helpers:
        raise ConfigError(
            f"backend.simple={run.config.backend.simple} compiles no helper graphs",
            where=where("backend.simple"),
            hint="use inductor or eager",
        )
    if run.config.artifacts.require and not backend.portable(run):
        raise ConfigError(
            f"artifacts.require=true, and backend={backend.name} keeps no artifacts",
            where=where("artifacts.require"),
            hint="use backend=inductor, or artifacts.require=false",
        )
    _check_limits(run, backend, resolved.provenance)
    problems = [
        problem for found in host.plugins.collect("check_config", run=lambda _: run).values() for problem in found
    ]
    if problems:
        raise ConfigError("; ".join(problems))
    return resolved, backend


def _known(host: Host, layered: Layered, folder: Path) -> Layered:
    run = layered.composed.run
    configs, problems = host.known(run.known.file, layered.provenance.where("known.file"))
    if problems and (run.known.require or run.known.name not in CHOICES):
        raise PluginError(problems[0], hint="keep the plugin out, or mend it")
    layered = replace(layered, notices=(*layered.notices, *problems))
    place = Place(run.backend.name, platform.machine(), host.environ)
    return with_known(layered, configs, read_config_json(folder), place)


def _check_limits(run: Run, backend: CompileBackend, provenance: Provenance) -> None:
    limits = backend.limits(run.config)
    for shape in run.shapes:
        if shape.is_range and not limits.ranges:
            raise ConfigError(
                f"shape {shape} in warmup is a range, and {backend.name} compiles fixed sizes only",
                where=provenance.where("warmup.shapes"),
                hint=f"write {shape.prompt_len}x{shape.batch_size}",
            )
        if shape.prompt_len % limits.token_multiple:
            raise ConfigError(
                f"shape {shape} in warmup is no multiple of {limits.token_multiple} tokens, as {backend.name} needs",
                where=provenance.where("warmup.shapes"),
                hint=f"use multiples of {limits.token_multiple}",
            )
    if run.config.model.dtype not in limits.dtypes:
        raise ConfigError(
            f"model.dtype={run.config.model.dtype} is not computed by {backend.name}",
            where=provenance.where("model.dtype"),
            hint=f"use {', '.join(limits.dtypes)}",
        )
