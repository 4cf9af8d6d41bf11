"""Layers, low to high: schema default, conf/ choice, profile, environment, command line; who set what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.config.compose import Composed, Composer, OptionFile, open_composer, quote
from sendnn_pipeline.config.compose_errors import odd_option
from sendnn_pipeline.config.defaults import schema_defaults
from sendnn_pipeline.config.draft import Draft, Layer, Origin
from sendnn_pipeline.config.environment import EnvValue
from sendnn_pipeline.config.exact_words import exact_words, several_values
from sendnn_pipeline.config.option_file import leaves
from sendnn_pipeline.config.options import PRIMARY, PROFILE, OptionTree
from sendnn_pipeline.config.references import show_resolved
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """The option that stands for ``auto`` in a group, and why."""

    option: str
    reason: str


@dataclass(frozen=True)
class LayeredConfig:
    """What the layers come to, before the model is read; and how to say the same to Hydra."""

    draft: Draft
    inserted: tuple[str, ...]
    """Overrides that stand for the environment, for groups left at ``auto``, and for who wins."""
    removed: tuple[str, ...]
    """The user's overrides that ``inserted`` replaces."""


def compose_layers(
    tree: OptionTree,
    schemas: SchemaStore,
    overrides: Sequence[Override],
    env: Sequence[EnvValue],
    auto: Mapping[str, Choice],
) -> LayeredConfig:
    """Compose all layers once and record who set what.

    A group option named on the command line, or by a variable, counts as setting every key of its file.

    Args:
        tree: the configuration folders.
        schemas: of all options.
        overrides: the command line, without sweeps.
        env: decoded environment values.
        auto: for groups that may be left at ``auto``, the option to take.

    Raises:
        ConfigError: they do not compose.
    """
    groups = tree.groups
    overrides = exact_words(overrides, schemas.keys())
    sweeping = next((one for one in overrides if one.sweeps), None)
    if sweeping is not None:
        raise several_values(sweeping, schemas.keys())
    odd = next((one for one in overrides if one.key in groups and not isinstance(one.value, str)), None)
    if odd is not None:
        raise odd_option(odd.key, odd.text, groups)
    with open_composer(tree, schemas) as composer:
        replaced = {group: choice for group, choice in auto.items() if _is_auto(composer, group, overrides, env)}
        removed = tuple(override.text for override in overrides if override.key in replaced)
        words = [override for override in overrides if override.key not in replaced]
        choices = [f"{group}={choice.option}" for group, choice in replaced.items()]
        choices += [f"{value.key}={value.value}" for value in env if value.key in groups and value.key not in replaced]
        files = composer.option_files([*choices, *(word.word for word in words if word.key in groups)])
        origins = _origins(composer, files, overrides, env, replaced)
        effective, overridden = _split(env, origins, groups)
        reordered, text = _reordered(files, origins), [word.word for word in words]
        composed, homeless = _compose(
            composer, schemas, effective, lambda env: [*choices, *env, *reordered, *text], origins
        )
    for value in homeless:
        del origins[value.key]
    inserted = [*choices, *_assignments(value for value in effective if value not in homeless), *reordered]
    for key, value in schema_defaults(composed.schemas).items():
        origins[key] = (*origins.get(key, ()), Origin(Layer.DEFAULT, "schema default", value))
    draft = Draft(composed.values, composed.schemas, origins, composed.choices)
    show_resolved(draft)
    for value in homeless:
        owners = " and ".join(schemas.owners(value.key))
        draft.note(f"{value.variable} is ignored: it sets {value.key}, and only {owners} has it")
    for value, winner in overridden:
        if winner.value != value.value:
            draft.note(f"{value.variable} is overridden by {winner.option or winner.where} on the command line")
    return LayeredConfig(draft, tuple(inserted), removed)


def _is_auto(composer: Composer, group: str, overrides: Sequence[Override], env: Sequence[EnvValue]) -> bool:
    named = [value.value for value in env if value.key == group] + [o.value for o in overrides if o.key == group]
    if named:
        return bool(named[-1] == AUTO)
    words = [f"{value.key}={value.value}" for value in env if value.key in composer.tree.groups]
    words += [override.word for override in overrides if override.key in composer.tree.groups]
    if not any(word.startswith(f"{PROFILE}=") for word in words):
        return True
    # A profile may choose the option.
    return any(file.group == group and file.option == AUTO for file in composer.option_files(words))


def _origins(
    composer: Composer,
    files: Sequence[OptionFile],
    overrides: Sequence[Override],
    env: Sequence[EnvValue],
    replaced: Mapping[str, Choice],
) -> dict[str, tuple[Origin, ...]]:
    """Return what each layer sets each key and group to, the one that holds first."""
    tree = composer.tree
    named = {value.key: (Layer.ENV, value.variable) for value in env}
    named |= {override.key: (Layer.COMMAND_LINE, override.text) for override in overrides}
    found: dict[str, list[Origin]] = {}
    primary = tree.display(tree.own / f"{PRIMARY}.yaml")
    choosers = {group: word for group, word in named.items() if group not in replaced}
    by_path = {file.path: file for file in files}
    for file in files:
        layer, where = _chooser(file, by_path, choosers, primary)
        if file.group in replaced:
            found.setdefault(file.group, []).append(Origin(Layer.CONF, primary, AUTO))
            choice = replaced[file.group]
            found[file.group].append(Origin(Layer.CHOSEN, choice.reason, choice.option))
        else:
            found.setdefault(file.group, []).append(Origin(layer, where, file.option))
        option = f"{file.group}={file.option}"
        for key, value in file.values.items():
            origin = Origin(layer, f"{tree.display(file.file)} ({option})", value, option)
            found.setdefault(key, []).append(origin)
    for value in env:
        if value.key not in tree.groups:
            found.setdefault(value.key, []).append(Origin(Layer.ENV, value.variable, value.value))
    for override in overrides:
        if override.key not in tree.groups:
            for key, value in _leaves(override, composer.types):
                found.setdefault(key, []).append(Origin(Layer.COMMAND_LINE, override.text, value))
    return {key: tuple(_by_layer(each)) for key, each in found.items()}


def _by_layer(origins: Sequence[Origin]) -> list[Origin]:
    """Return the highest layer first; of one layer the last one holds."""
    return [one for _, one in sorted(enumerate(origins), key=lambda pair: (pair[1].layer, pair[0]), reverse=True)]


def _chooser(
    file: OptionFile, by_path: Mapping[str, OptionFile], named: Mapping[str, tuple[Layer, str]], primary: str
) -> tuple[Layer, str]:
    """Return who chose an option, or another one whose defaults list has it: its keys count as set by that."""
    if file.group == PROFILE:
        return Layer.PROFILE, named[PROFILE][1] if PROFILE in named else primary
    if file.group in named:
        return named[file.group]
    parent = by_path.get(file.chosen_in or file.parent)
    if parent is None:
        return Layer.CONF, primary
    layer, where = _chooser(parent, by_path, named, primary)
    return layer, parent.path if layer == Layer.PROFILE else where


def _leaves(override: Override, types: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(override.value, Mapping) and types.get(override.key) is not Any:
        return list(leaves(override.value, override.key, types))
    return [(override.key, override.value)]


def _split(
    env: Sequence[EnvValue], origins: Mapping[str, tuple[Origin, ...]], groups: Mapping[str, Any]
) -> tuple[list[EnvValue], list[tuple[EnvValue, Origin]]]:
    """Split the environment's values into those that take effect, and those that the command line overrides."""
    values = [value for value in env if value.key not in groups]
    effective = [value for value in values if origins[value.key][0].where == value.variable]
    overridden = [
        (value, origins[value.key][0]) for value in values if origins[value.key][0].layer == Layer.COMMAND_LINE
    ]
    return effective, overridden


def _reordered(files: Sequence[OptionFile], origins: Mapping[str, tuple[Origin, ...]]) -> list[str]:
    """Return overrides for keys that Hydra, which merges in the order of files, would leave to a lower layer."""
    last: dict[str, Any] = {}
    for file in files:
        last |= file.merged
    overrides = []
    for key, value in last.items():
        winner = next((origin for origin in origins[key] if origin.layer <= Layer.COMMAND_LINE), None)
        if winner is not None and winner.option and winner.value != value:
            overrides.append(f"{key}={quote(winner.value)}")
    return overrides


def _compose(
    composer: Composer,
    schemas: SchemaStore,
    effective: Sequence[EnvValue],
    words: Callable[[Sequence[str]], list[str]],
    origins: Mapping[str, tuple[Origin, ...]],
) -> tuple[Composed, list[EnvValue]]:
    """Compose with the environment's values, but for those whose keys the chosen options do not have.

    An image sets variables for one option, and a run, or a job of a sweep, chooses another.

    Args:
        composer: over all options.
        schemas: of all options.
        effective: the environment's values.
        words: puts them, as overrides, among all the others.
        origins: what each layer sets, for errors.

    Returns:
        The composition, and the values that are left out.
    """
    homeless: list[EnvValue] = []
    while True:
        try:
            return composer.compose(words(_assignments(one for one in effective if one not in homeless))), homeless
        except ConfigError as error:
            lost = next((one for one in effective if error.message == f"unknown key {one.key}"), None)
            if lost is None or lost in homeless or not schemas.owners(lost.key):
                raise _located(error, origins) from None
            homeless.append(lost)


def _located(error: ConfigError, origins: Mapping[str, tuple[Origin, ...]]) -> ConfigError:
    """Return an error with what set its key; a word that names no key is in sight already."""
    keys = [error.key, *(key for key in origins if key.startswith(f"{error.key}."))] if error.key else []
    named = (Layer.ENV,) if error.message.startswith("unknown") else (Layer.ENV, Layer.COMMAND_LINE)
    tops = (top.where for key in keys for top in origins.get(key, ())[:1] if top.option or top.layer in named)
    return ConfigError(error.message, hint=error.hint, where=next(tops, error.where))


def _assignments(values: Iterable[EnvValue]) -> list[str]:
    return [f"{value.key}={quote(value.value)}" for value in values]
