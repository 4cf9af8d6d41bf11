"""Which known configuration a model has: the most specific pattern that its own config.json fits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.known import KnownConfiguration, Runtime
from sendnn_pipeline.config.shapes import parse_shapes
from sendnn_pipeline.errors import ConfigError

# Keys that tell the runtimes of one model apart: what the user says of them chooses among them.
SHAPES = "warmup.shapes"
IDENTIFYING = (SHAPES, "model.max_model_len", "scheduler.max_num_seqs")
# transformers renamed it; a pattern has one name for both.
RENAMED = {"torch_dtype": "dtype", "dtype": "torch_dtype"}
MISSING = object()


@dataclass(frozen=True)
class Difference:
    """A key at which the user says something else than the known configuration."""

    key: str
    said: Any
    known: Any


def differences(config: KnownConfiguration, model: Mapping[str, Any]) -> list[str]:
    """Return what of config.json does not fit the pattern: ``num_hidden_layers is 40 there and 36 here``."""
    return list(_differences(config.match, model, ""))


def _differences(pattern: Mapping[str, Any], found: Any, prefix: str) -> Iterator[str]:
    for key, wanted in pattern.items():
        held: Any = MISSING
        if isinstance(found, Mapping):
            held = found.get(key, found.get(RENAMED.get(key, key), MISSING))
        if isinstance(wanted, Mapping):
            yield from _differences(wanted, held, f"{prefix}{key}.")
        elif held != wanted and not (isinstance(held, list) and wanted in held):
            yield f"{prefix}{key} is {wanted} there and {'missing' if held is MISSING else held} here"


def specificity(config: KnownConfiguration) -> int:
    """Count the entries of the pattern, nested ones one by one."""
    return sum(len(value) if isinstance(value, Mapping) else 1 for value in config.match.values())


def usable(configs: Iterable[KnownConfiguration], backend: str, machine: str) -> list[KnownConfiguration]:
    """Return those for a backend on a machine."""
    return [held for held in configs if backend in held.backends and (not held.platforms or machine in held.platforms)]


def best_match(configs: Iterable[KnownConfiguration], model: Mapping[str, Any]) -> KnownConfiguration | None:
    """Return the configuration of the most specific pattern that fits, or None.

    Args:
        configs: to choose from.
        model: the model's config.json.

    Raises:
        ConfigError: two patterns are equally specific.
    """
    fitting = sorted((held for held in configs if not differences(held, model)), key=lambda held: -specificity(held))
    if len(fitting) > 1 and specificity(fitting[0]) == specificity(fitting[1]):
        raise ConfigError(
            f"known configurations {fitting[0].name} ({fitting[0].where}) and {fitting[1].name} ({fitting[1].where}) "
            "fit this model equally well",
            hint="make one pattern more specific, or choose with known.name=",
        )
    return fitting[0] if fitting else None


def nearest_configs(configs: Iterable[KnownConfiguration], model: Mapping[str, Any], count: int = 3) -> list[str]:
    """Describe the configurations of this model type that differ the least, nearest first."""
    alike = [held for held in configs if held.match["model_type"] == model.get("model_type")]
    ranked = sorted(alike, key=lambda held: (len(differences(held, model)), held.name))
    return [f"{held.name} ({', '.join(differences(held, model)) or 'fits'})" for held in ranked[:count]]


def choose_runtime(
    config: KnownConfiguration, said: Mapping[str, Any], tp_size: int
) -> tuple[Runtime | None, list[Difference]]:
    """Return the first runtime for so many ranks that the user's own values allow, and where those still differ.

    Args:
        config: of the model.
        said: what the user said, by key.
        tp_size: ranks of the run.

    Returns:
        The runtime, or None where each differs in what tells it from the others: then the differences are those
        of the nearest one.
    """
    runtimes = [runtime for runtime in config.runtimes if runtime.tp_size == tp_size]
    ranked = sorted(runtimes, key=lambda runtime: len(_conflicts(runtime, said)))
    if not ranked:
        known = sorted({runtime.tp_size for runtime in config.runtimes})
        return None, [Difference("tp_size", tp_size, " or ".join(map(str, known)))]
    conflicts = _conflicts(ranked[0], said)
    if conflicts:
        return None, conflicts
    others = [
        Difference(key, said[key], value)
        for key, value in ranked[0].values.items()
        if key in said and key not in IDENTIFYING and said[key] != value
    ]
    return ranked[0], others


def _conflicts(runtime: Runtime, said: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(key, said[key], runtime.values[key])
        for key in IDENTIFYING
        if key in said and key in runtime.values and not _agrees(key, said[key], runtime.values[key])
    ]


def _agrees(key: str, said: Any, known: Any) -> bool:
    if key != SHAPES:
        return bool(said == known)
    return bool(said) and set(_shapes(said)) <= set(_shapes(known))


def _shapes(value: Sequence[Any]) -> Sequence[Any]:
    return parse_shapes(list(map(str, value))) or ()
