"""Which known configuration a model has: the most specific pattern that fits its own config.json."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import IDENTIFYING, SHAPES, KnownConfiguration, Runtime

# transformers renamed it; a pattern has one name for both.
RENAMED = {"torch_dtype": "dtype", "dtype": "torch_dtype"}


@dataclass(frozen=True)
class Difference:
    """A key for which the user's value is not the known configuration's."""

    key: str
    user: Any
    known: Any


def find_differences(config: KnownConfiguration, model: Mapping[str, Any]) -> list[str]:
    """Describe what of a config.json does not fit the pattern: ``num_hidden_layers is 36 instead of 40``."""
    return list(_walk_pattern(config.match, model, ""))


def _walk_pattern(pattern: Mapping[str, Any], document: Any, prefix: str) -> Iterator[str]:
    for key, expected in pattern.items():
        actual = None
        if isinstance(document, Mapping):
            actual = document.get(key, document.get(RENAMED.get(key, key)))
        if isinstance(expected, Mapping):
            yield from _walk_pattern(expected, actual, f"{prefix}{key}.")
        elif not _accepts(expected, actual):
            found = "missing" if actual is None else actual
            yield f"{prefix}{key} is {found} instead of {' or '.join(_alternatives(expected))}"


def _accepts(expected: Any, actual: Any) -> bool:
    if isinstance(expected, list):
        return any(_accepts(alternative, actual) for alternative in expected)
    return bool(actual == expected) or (isinstance(actual, list) and expected in actual)


def _alternatives(expected: Any) -> list[str]:
    values = expected if isinstance(expected, list) else [expected]
    return ["missing" if value is None else str(value) for value in values]


def count_attributes(pattern: Mapping[str, Any]) -> int:
    """Count the attributes of a pattern, nested ones one by one: how specific it is."""
    return sum(count_attributes(value) if isinstance(value, Mapping) else 1 for value in pattern.values())


def select_usable(configs: Iterable[KnownConfiguration], backend: str, machine: str) -> list[KnownConfiguration]:
    """Return those for a backend on a machine."""
    return [
        config
        for config in configs
        if backend in config.backends and (not config.platforms or machine in config.platforms)
    ]


def find_named(configs: Iterable[KnownConfiguration], name: str) -> KnownConfiguration | None:
    """Return the one of this name or alias."""
    return next((config for config in configs if name in config.names), None)


def best_match(configs: Iterable[KnownConfiguration], model: Mapping[str, Any]) -> KnownConfiguration | None:
    """Return the configuration of the most specific pattern that fits, or None.

    Args:
        configs: to choose from.
        model: the model's config.json.

    Raises:
        ConfigError: two patterns are equally specific.
    """
    fitting = [config for config in configs if not find_differences(config, model)]
    fitting.sort(key=lambda config: -count_attributes(config.match))
    if len(fitting) > 1 and count_attributes(fitting[0].match) == count_attributes(fitting[1].match):
        raise ConfigError(
            f"known configurations {fitting[0].name} ({fitting[0].where}) and {fitting[1].name} ({fitting[1].where}) "
            "fit this model equally well",
            hint="make one pattern more specific, make one name an alias, or choose with known.name=",
        )
    return fitting[0] if fitting else None


def describe_nearest(configs: Iterable[KnownConfiguration], model: Mapping[str, Any], count: int = 3) -> list[str]:
    """Describe the configurations of this model type that differ in the fewest attributes, nearest first."""
    same_type = [config for config in configs if _accepts(config.match["model_type"], model.get("model_type"))]
    ranked = sorted(same_type, key=lambda config: (len(find_differences(config, model)), config.name))
    return [f"{config.name} ({', '.join(find_differences(config, model)) or 'fits'})" for config in ranked[:count]]


def choose_runtime(
    config: KnownConfiguration, user: Mapping[str, Any], tp_size: int
) -> tuple[Runtime | None, list[Difference]]:
    """Return the first runtime for so many ranks that the user's values allow, and where those still differ.

    A value that tells runtimes apart rules out the runtimes that do not set its key, where another does: warmup
    shapes rule out those of continuous batching.

    Args:
        config: of the model.
        user: what the user set, by key.
        tp_size: ranks of the run.

    Returns:
        The runtime, or None where each differs in what tells it from the others: then the differences are those
        of the nearest one.
    """
    runtimes = [runtime for runtime in config.runtimes if runtime.tp_size == tp_size]
    if not runtimes:
        sizes = sorted({runtime.tp_size for runtime in config.runtimes})
        return None, [Difference("tp_size", tp_size, " or ".join(map(str, sizes)))]
    for key in IDENTIFYING:
        setting = [runtime for runtime in runtimes if key in runtime.values]
        if key in user and setting:
            runtimes = setting
    nearest = min(runtimes, key=lambda runtime: len(_find_conflicts(runtime, user)))
    conflicts = _find_conflicts(nearest, user)
    if conflicts:
        return None, conflicts
    others = [
        Difference(key, user[key], value)
        for key, value in nearest.values.items()
        if key in user and key not in IDENTIFYING and user[key] != value
    ]
    return nearest, others


def _find_conflicts(runtime: Runtime, user: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(key, user[key], runtime.values[key])
        for key in IDENTIFYING
        if key in user and key in runtime.values and not _agrees(key, user[key], runtime.values[key])
    ]


def _agrees(key: str, user: Any, known: Any) -> bool:
    if key != SHAPES:
        return bool(user == known)
    return bool(user) and set(map(str, user)) <= set(map(str, known))
