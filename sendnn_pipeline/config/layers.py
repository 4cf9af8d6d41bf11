"""Layers, low to high: schema default, conf/ choice, profile, environment, command line; where a value came from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from sendnn_pipeline.config.command_line import Word
from sendnn_pipeline.config.compose import Composed, compose, quote
from sendnn_pipeline.config.environment import EnvValue
from sendnn_pipeline.config.options import PRIMARY, OptionTree, flatten
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import ConfigError

# Warmup shapes are one value written two ways: saying one replaces the other.
SHAPE_FORMS = (
    ("warmup.shapes", "warmup.prompt_lens"),
    ("warmup.shapes", "warmup.batch_sizes"),
    ("warmup.prompt_lens", "warmup.shapes"),
    ("warmup.batch_sizes", "warmup.shapes"),
)
# The group whose option is laid over all the others.
PROFILE = "profile"


@dataclass(frozen=True)
class Origin:
    """One layer's say about one key."""

    layer: str
    where: str
    value: Any


@dataclass(frozen=True)
class Provenance:
    """For every key and group, what each layer said; the one that holds comes first."""

    origins: Mapping[str, tuple[Origin, ...]]

    def where(self, key: str) -> str:
        """Return the file or variable that set ``key``; empty for a schema default."""
        said = self.origins.get(key, ())
        return said[0].where if said and said[0].layer != "default" else ""

    def put(self, key: str, origin: Origin) -> "Provenance":
        """Return a copy in which ``origin`` holds for ``key``."""
        return Provenance({**self.origins, key: (origin, *self.origins.get(key, ()))})


@dataclass(frozen=True)
class Layered:
    """A first composition: what the words alone say, before the model is read."""

    composed: Composed
    provenance: Provenance
    inserted: tuple[str, ...]
    """Override words that stand for the environment and for groups left at ``auto``."""
    removed: tuple[str, ...]
    """The user's words that ``inserted`` replaces."""
    notices: tuple[str, ...]


def split_environment(
    env: Sequence[EnvValue], words: Sequence[Word], tree: OptionTree
) -> tuple[list[EnvValue], list[tuple[EnvValue, str]]]:
    """Split environment values into those that hold and those that the command line overrides, with by what.

    A word for the same key overrides. So does a group option named on the command line whose file sets the key: naming
    it counts as setting every key of its file.
    """
    by_key = {word.key: word.text for word in words}
    options = tree.groups()
    for word in words:
        if word.key in options and not word.sweeps and word.value in options[word.key]:
            for key in tree.values(word.key, word.value):
                by_key.setdefault(key, word.text)
    for said, replaced in SHAPE_FORMS:
        if said in by_key:
            by_key.setdefault(replaced, by_key[said])
    held = [value for value in env if value.key not in by_key]
    dropped = [(value, by_key[value.key]) for value in env if value.key in by_key]
    return held, dropped


def as_word(value: EnvValue, groups: Mapping[str, Any]) -> str:
    """Write an environment value as an override word."""
    return f"{value.key}={value.value if value.key in groups else quote(value.value)}"


def layer(
    tree: OptionTree,
    ours: Path,
    words: Sequence[Word],
    env: Sequence[EnvValue],
    chosen: Mapping[str, tuple[str, str]],
) -> Layered:
    """Compose all layers once and record what each said.

    Args:
        tree: the configuration folders.
        ours: our own ``conf/``.
        words: the command line, without sweeps.
        env: decoded environment values.
        chosen: for groups left at ``auto``, the option taken and the reason.
    """
    held, dropped = split_environment(env, words, tree)
    groups = tree.groups()
    texts = [as_word(value, groups) for value in held]
    # A typed option's keys exist only once it is chosen, so ``auto`` is replaced before composing, not after.
    said_auto = {group for group in chosen if _option_of(group, tree, ours, words, held) == "auto"}
    choices = [f"{group}={chosen[group][0]}" for group in said_auto]
    removed = [word.text for word in words if word.key in said_auto]
    inserted = [*(text for text, value in zip(texts, held, strict=True) if value.key not in said_auto), *choices]
    try:
        composed = compose(tree, ours, [*inserted, *(word.text for word in words if word.text not in removed)])
    except ConfigError as error:
        variable = next((value for value in held if error.message == f"{value.key} is no key"), None)
        if variable is None:
            raise
        raise ConfigError(
            f"{variable.variable} sets {variable.key}, which the chosen options do not have",
            hint=f"choose the option of {variable.key.split('.')[0]} that has it, or unset {variable.variable}",
        ) from None
    provenance = _provenance(tree, ours, composed, words, held)
    for group in said_auto:
        option, reason = chosen[group]
        provenance = provenance.put(group, Origin("chosen", reason, option))
    for value, _ in dropped:
        held_by, *rest = provenance.origins[value.key]
        lost = Origin("env", value.variable, value.value)
        provenance = Provenance({**provenance.origins, value.key: (held_by, lost, *rest)})
    notices = tuple(
        f"{value.variable} is overridden by {by} on the command line"
        for value, by in dropped
        if composed.values.get(value.key, composed.choices.get(value.key)) != value.value
    )
    return Layered(composed, provenance, tuple(inserted), tuple(removed), notices)


def _option_of(group: str, tree: OptionTree, ours: Path, words: Sequence[Word], env: Sequence[EnvValue]) -> str:
    said = [value.value for value in env if value.key == group] + [word.value for word in words if word.key == group]
    if said:
        return str(said[-1])
    if any(word.key == PROFILE for word in words):
        # Keys of the group may not exist before its option is known, so only the choices are composed.
        return compose(tree, ours, [word.text for word in words if word.key in tree.groups()]).choices[group]
    return tree.default_options(ours)[group]


def _provenance(
    tree: OptionTree, ours: Path, composed: Composed, words: Sequence[Word], env: Sequence[EnvValue]
) -> Provenance:
    origins: dict[str, list[Origin]] = {}
    defaults = _schema_defaults(composed.run)
    for key in composed.values:
        origins[key] = [Origin("default", "schema default", defaults.get(key))]
    for group, option in tree.default_options(ours).items():
        origins[group] = [Origin("conf", shown_file(ours / f"{PRIMARY}.yaml", ours), option)]
    for group, option in sorted(composed.choices.items(), key=lambda choice: choice[0] == PROFILE):
        layer_name = PROFILE if group == PROFILE else "conf"
        for key, (value, file) in tree.values(group, option).items():
            where = f"{shown_file(file, ours)} ({group}={option})"
            origins.setdefault(key, []).insert(0, Origin(layer_name, where, value))
    for value in env:
        origins.setdefault(value.key, []).insert(0, Origin("env", value.variable, value.value))
    for word in words:
        for key, said in _leaves(word):
            origins.setdefault(key, []).insert(0, Origin("command line", word.text, said))
    return Provenance({key: tuple(said) for key, said in origins.items()})


def _leaves(word: Word) -> list[tuple[str, Any]]:
    if isinstance(word.value, Mapping):
        return list(flatten(word.value, word.key))
    return [(word.key, word.value)]


def _schema_defaults(run: RunConfig) -> dict[str, Any]:
    """Return the defaults of the schema, and of a plugin's schema where its option is chosen."""
    plain = {entry.name: getattr(run, entry.name) for entry in fields(run)}
    groups = {name: asdict(type(value)()) for name, value in plain.items() if is_dataclass(value)}  # type: ignore[misc]
    return dict(flatten({**asdict(RunConfig()), **groups}))


def shown_file(file: Path, ours: Path) -> str:
    """Name an option's file: ours from ``conf/`` on, others in full."""
    return f"conf/{file.relative_to(ours)}" if file.is_relative_to(ours) else str(file)
