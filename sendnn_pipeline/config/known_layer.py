"""The layer of known configurations: above ``conf/``, below all that the user says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sendnn_pipeline.config.compose import thaw
from sendnn_pipeline.config.known import CHOICES, KnownConfiguration, Runtime
from sendnn_pipeline.config.known_match import (
    SHAPES,
    Difference,
    best_match,
    choose_runtime,
    differences,
    nearest_configs,
    usable,
)
from sendnn_pipeline.config.layers import SHAPE_FORMS, Layered, Origin, Provenance
from sendnn_pipeline.config.resolve import SAID_BY_USER, said_shapes
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import ConfigError, nearest

ENVIRONMENT = "backend.environment"
AUTO, NONE = CHOICES
LAYER = "known"


@dataclass(frozen=True)
class Place:
    """Where the run takes place, as far as known configurations ask."""

    backend: str
    machine: str
    """As ``platform.machine()`` names it."""
    environ: Mapping[str, str]
    tp_size: int = 1


def with_known(
    layered: Layered, configs: Sequence[KnownConfiguration], model: Mapping[str, Any], place: Place
) -> Layered:
    """Lay the model's known configuration under what the user says.

    Args:
        layered: the composed words.
        configs: all that are known.
        model: the model's config.json.
        place: where the run takes place.

    Raises:
        ConfigError: the configuration that is named does not exist or is another model's, two fit equally well, or
            ``known.require`` is set and none fits, or the user says something else.
    """
    given, provenance = layered.composed.run, layered.provenance
    options, required = given.known, provenance.where("known.require")
    if options.name == NONE and options.require:
        raise ConfigError("known.require=true and known=none exclude each other", where=required)
    if options.name == NONE:
        return layered
    if options.name == AUTO:
        chosen = best_match(usable(configs, place.backend, place.machine), model)
    else:
        chosen = _named(options.name, configs, model, place, provenance.where("known.name"))
    if chosen is None and options.require:
        kind = f"this {model.get('model_type')} model with backend={place.backend} on {place.machine}"
        raise ConfigError(
            f"known.require=true, and no known configuration fits {kind}",
            where=required,
            hint=_nearest(configs, model, place),
        )
    if chosen is None:
        return layered
    said = _said(given, provenance, place.environ, chosen)
    runtime, differing = choose_runtime(chosen, said, place.tp_size)
    shown = [_shown(difference, provenance) for difference in differing]
    if options.require and differing:
        raise ConfigError(
            f"known.require=true, and known configuration {chosen.name} says {'; '.join(shown)}",
            where=required,
            hint="run what is known, or set known.require=false",
        )
    provenance = provenance.put(
        "known.name", Origin(LAYER, f"{chosen.where} fits the model's config.json", chosen.name)
    )
    run = replace(given, known=replace(options, name=chosen.name))
    for key, value in _unsaid(runtime, said, place.environ).items():
        run = _with(run, key, value, chosen)
        provenance = provenance.put(key, Origin(LAYER, f"{chosen.name} ({chosen.where})", value))
    notices = tuple(f"known configuration {chosen.name} says {line}" for line in shown)
    composed = replace(layered.composed, run=run)
    return replace(layered, composed=composed, provenance=provenance, notices=(*layered.notices, *notices))


def _unsaid(runtime: Runtime | None, said: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the runtime sets and the user does not."""
    values = {} if runtime is None else {key: value for key, value in runtime.values.items() if key not in said}
    if runtime is not None and ENVIRONMENT in runtime.values:
        known = runtime.values[ENVIRONMENT]
        values[ENVIRONMENT] = {name: held for name, held in known.items() if name not in environ}
    return values


def _named(
    name: str, configs: Sequence[KnownConfiguration], model: Mapping[str, Any], place: Place, where: str
) -> KnownConfiguration:
    found = next((held for held in configs if held.name == name), None)
    if found is None:
        raise ConfigError(
            f"there is no known configuration {name}", where=where, hint=nearest(name, [held.name for held in configs])
        )
    if found not in usable(configs, place.backend, place.machine):
        machines = f" on {' or '.join(found.platforms)}" if found.platforms else ""
        raise ConfigError(
            f"known configuration {name} is for backend {' or '.join(found.backends)}{machines}, and this is "
            f"{place.backend} on {place.machine}",
            where=where,
        )
    wrong = differences(found, model)
    if wrong:
        raise ConfigError(f"known configuration {name} is for another model: {wrong[0]}", where=where)
    return found


def _nearest(configs: Sequence[KnownConfiguration], model: Mapping[str, Any], place: Place) -> str:
    near = nearest_configs(usable(configs, place.backend, place.machine), model)
    if near:
        return f"nearest: {'; '.join(near)}"
    elsewhere = nearest_configs(configs, model)
    if elsewhere:
        return f"nearest, for other backends or machines: {'; '.join(elsewhere)}"
    return "set known.require=false, or add one with known.file="


def _said(
    run: RunConfig, provenance: Provenance, environ: Mapping[str, str], chosen: KnownConfiguration
) -> dict[str, Any]:
    """Return what the user says of the keys that the configuration sets."""
    keys = {key for runtime in chosen.runtimes for key in runtime.values}
    said = {key: _value(run, key) for key in keys if key != SHAPES and said_by_user(provenance, key)}
    shape_keys = {key for pair in SHAPE_FORMS for key in pair}
    if SHAPES in keys and any(said_by_user(provenance, key) for key in shape_keys):
        said[SHAPES] = [str(shape) for shape in said_shapes(run, provenance) or ()]
    for runtime in chosen.runtimes:
        known = runtime.values.get(ENVIRONMENT, {})
        differing = {name: environ[name] for name, held in known.items() if environ.get(name, held) != held}
        if differing:
            said[ENVIRONMENT] = {**known, **differing}
    return said


def said_by_user(provenance: Provenance, key: str) -> bool:
    """Return whether the user set a key, or chose the option whose file sets it."""
    origins = provenance.origins.get(key, ())
    if not origins or origins[0].layer in SAID_BY_USER:
        return bool(origins)
    chosen = provenance.origins.get(key.split(".", maxsplit=1)[0], ())
    return origins[0].layer == "conf" and bool(chosen) and chosen[0].layer in SAID_BY_USER


def _shown(difference: Difference, provenance: Provenance) -> str:
    known, said = difference.known, difference.said
    if difference.key == ENVIRONMENT:
        names = [name for name in known if known[name] != said[name]]
        return ", ".join(f"{name}={known[name]}, and the environment {said[name]}" for name in names)
    where = provenance.where(difference.key)
    return f"{difference.key}={_listed(known)}, and this run {_listed(said)}" + (f" ({where})" if where else "")


def _listed(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _value(run: RunConfig, key: str) -> Any:
    held: Any = run
    for name in key.split("."):
        held = getattr(held, name, None)
    return held


def _with(run: RunConfig, key: str, value: Any, chosen: KnownConfiguration) -> RunConfig:
    """Return ``run`` with one key replaced, its type checked as a file's would be."""
    group, _, name = key.partition(".")
    holder = getattr(run, group, None)
    try:
        if holder is None or not hasattr(holder, name):
            raise ConfigError(f"known configuration {chosen.name} ({chosen.where}) sets {key}, which is no key here")
        schema = thaw(OmegaConf.structured(holder))
        OmegaConf.update(schema, name, value)
        checked = OmegaConf.to_object(schema)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"known configuration {chosen.name} ({chosen.where}) sets {key}: {str(error).splitlines()[0]}"
        ) from None
    return replace(run, **{group: replace(holder, **{name: getattr(checked, name)})})
