"""The layer of known configurations: above ``conf/``, below all that the user sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.draft import Draft, Layer, write_value
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.known.entry import AUTO, NONE, SHAPES, KnownConfiguration, Runtime
from sendnn_pipeline.known.match import (
    Difference,
    best_match,
    choose_runtime,
    describe_nearest,
    find_differences,
    find_named,
    select_usable,
)

ENVIRONMENT = "backend.environment"


@dataclass(frozen=True)
class Platform:
    """What known configurations ask about the machine and the run."""

    backend: str
    machine: str
    """As ``platform.machine()`` names it."""
    environ: Mapping[str, str]
    tp_size: int = 1


class NotKnownError(ConfigError):
    """What is looked for is not among the known configurations."""


def apply_known(
    draft: Draft, configs: Sequence[KnownConfiguration], model: Mapping[str, Any], platform: Platform
) -> None:
    """Lay the model's known configuration under what the user sets.

    Args:
        draft: the run.
        configs: all that are known.
        model: the model's config.json.
        platform: the machine and the run.

    Raises:
        ConfigError: the configuration that is named is another model's, two fit equally well, or
            ``known.require`` is set and the user sets something else.
        NotKnownError: ``known.require`` is set and none fits, or there is none of the name.
    """
    name, require, where = draft["known.name"], draft["known.require"], draft.where("known.require")
    if name == NONE and require:
        raise ConfigError("known.require=true and known=none exclude each other", where=where)
    if name == NONE:
        return
    if name == AUTO:
        chosen = best_match(select_usable(configs, platform.backend, platform.machine), model)
    else:
        chosen = _named(name, configs, model, platform, draft.where("known.name"))
    if chosen is None and require:
        kind = f"this {model.get('model_type')} model with backend={platform.backend} on {platform.machine}"
        raise NotKnownError(
            f"known.require=true, and no known configuration fits {kind}",
            where=where,
            hint=_nearest(configs, model, platform),
        )
    if chosen is None:
        return
    user = _user_values(draft, platform.environ, chosen)
    runtime, differing = choose_runtime(chosen, user, platform.tp_size)
    lines = [f"known configuration {chosen.name} has {_describe(difference, draft)}" for difference in differing]
    if require and differing:
        raise ConfigError(
            f"known.require=true, and {'; '.join(lines)}",
            where=where,
            hint="run what is known, or set known.require=false",
        )
    fits = f"{chosen.where} fits the model's config.json{_also(chosen)}"
    draft.put("known.name", chosen.name, Layer.KNOWN, fits)
    for key, value in _values_to_put(runtime, user, platform.environ).items():
        if key not in draft:
            message = f"known configuration {chosen.name} ({chosen.where}) sets the unknown key {key}"
            raise ConfigError(message, hint="mend its file, or set known=none")
        draft.put(key, value, Layer.KNOWN, f"{chosen.name} ({chosen.where})")
    for line in lines:
        draft.note(line)


def _values_to_put(runtime: Runtime | None, user: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the runtime sets and the user does not."""
    if runtime is None:
        return {}
    values = {key: value for key, value in runtime.values.items() if key not in user}
    if ENVIRONMENT in runtime.values:
        known = runtime.values[ENVIRONMENT]
        values[ENVIRONMENT] = {name: text for name, text in known.items() if name not in environ}
    return values


def _named(
    name: str, configs: Sequence[KnownConfiguration], model: Mapping[str, Any], platform: Platform, where: str
) -> KnownConfiguration:
    found = find_named(configs, name)
    if found is None:
        names = [known for config in configs for known in config.names]
        raise NotKnownError(f"unknown known configuration {name}", where=where, hint=nearest(name, names))
    if found not in select_usable(configs, platform.backend, platform.machine):
        machines = f" on {' or '.join(found.platforms)}" if found.platforms else ""
        raise ConfigError(
            f"known configuration {name} is for backend {' or '.join(found.backends)}{machines}, and this is "
            f"{platform.backend} on {platform.machine}",
            where=where,
        )
    wrong = find_differences(found, model)
    if wrong:
        raise ConfigError(f"known configuration {name} is for another model: {wrong[0]}", where=where)
    return found


def _also(chosen: KnownConfiguration) -> str:
    return f"; also known as {', '.join(chosen.aliases)}" if chosen.aliases else ""


def _nearest(configs: Sequence[KnownConfiguration], model: Mapping[str, Any], platform: Platform) -> str:
    near = describe_nearest(select_usable(configs, platform.backend, platform.machine), model)
    if near:
        return f"nearest: {'; '.join(near)}"
    elsewhere = describe_nearest(configs, model)
    if elsewhere:
        return f"nearest, for other backends or machines: {'; '.join(elsewhere)}"
    return "set known.require=false, or add one with known.file="


def _user_values(draft: Draft, environ: Mapping[str, str], chosen: KnownConfiguration) -> dict[str, Any]:
    """Return what the user sets of the keys that the configuration sets."""
    keys = {key for runtime in chosen.runtimes for key in runtime.values}
    values = {key: draft[key] for key in keys if key in draft and draft.set_by_user(key)}
    if isinstance(values.get(SHAPES), str):
        values[SHAPES] = values[SHAPES].split(",")
    for runtime in chosen.runtimes:
        known = runtime.values.get(ENVIRONMENT, {})
        differing = {name: environ[name] for name, text in known.items() if environ.get(name, text) != text}
        if differing:
            values[ENVIRONMENT] = {**known, **differing}
    return values


def _describe(difference: Difference, draft: Draft) -> str:
    known, user = difference.known, difference.user
    if difference.key == ENVIRONMENT:
        names = [name for name in known if known[name] != user[name]]
        return ", ".join(f"{name}={known[name]}, and the environment {user[name]}" for name in names)
    where = draft.where(difference.key)
    return f"{difference.key}={write_value(known)}, and this run {write_value(user)}" + (f" ({where})" if where else "")
