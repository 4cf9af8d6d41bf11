"""The one place that composes with Hydra: words in, typed values out, one-line errors."""

import re
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sendnn_pipeline.config.keys import keys_of
from sendnn_pipeline.config.options import PRIMARY, SCHEMA_SUFFIX, OptionTree, flatten
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION_BASE = "1.3"
HELP_FILE = "quiet.yaml"


@dataclass(frozen=True)
class Composed:
    """One composition: plain values by key, the option chosen in each group, and the typed run."""

    values: dict[str, Any]
    choices: dict[str, str]
    run: RunConfig


@dataclass
class SchemaStore:
    """Typed options of config groups; given to ``register_schemas``."""

    schemas: dict[tuple[str, str], type] = field(default_factory=dict)

    def __call__(self, group: str, name: str, schema: type) -> None:
        """Make ``schema``, a frozen dataclass, known as ``{name}_schema`` of ``group``.

        Raises:
            ConfigError: the name is taken in that group.
        """
        if (group, name) in self.schemas:
            taken = self.schemas[group, name]
            raise ConfigError(f"schema {group}/{name} is registered by {taken.__module__} and {schema.__module__}")
        self.schemas[group, name] = schema


def thaw(node: Any) -> Any:
    """Clear the read-only flags that frozen dataclasses leave behind, so that layers can merge."""
    OmegaConf.set_readonly(node, None)
    keys = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        child = node._get_node(key)  # OmegaConf has no public way to a node
        if isinstance(child, Container):
            thaw(child)
    return node


def store_schemas(schemas: Mapping[tuple[str, str], type]) -> None:
    """Hand the typed run and the plugins' typed options to Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=thaw(OmegaConf.structured(RunConfig)), provider="sendnn_pipeline")
    for (group, name), schema in schemas.items():
        node = thaw(OmegaConf.structured(schema))
        store.store(group=group, name=f"{name}{SCHEMA_SUFFIX}", node=node, provider=schema.__module__)


def search_path_word(tree: OptionTree, ours: Path) -> list[str]:
    """Return the override that puts the plugins' folders on Hydra's search path."""
    others = [folder for folder in tree.conf_dirs.values() if folder != ours]
    return [f"hydra.searchpath={quote([f'file://{folder}' for folder in others])}"] if others else []


def help_word(tree: OptionTree, ours: Path) -> list[str]:
    """Return the override that lists groups and options of every plugin in the help; Hydra's own list has only ours."""
    template = yaml.safe_load((ours / HELP_FILE).read_text())["help"]["template"]
    groups = [f"{group}: {', '.join(sorted(options))}" for group, options in sorted(tree.groups().items())]
    return [f"hydra.help.template={quote(template.replace('$APP_CONFIG_GROUPS', chr(10).join([*groups, ''])))}"]


def quote(value: Any) -> str:
    """Write a value so that Hydra's override grammar reads it back unchanged: never a sweep, never an interpolation."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ",".join(quote(item) for item in value) + "]"
        case _:
            escaped = re.sub(r"(\\*)\"", r'\1\1\\"', str(value))
            trailing = re.search(r"\\+$", escaped)
            return f'"{escaped}{trailing[0] if trailing else ""}"'


def compose(tree: OptionTree, ours: Path, words: Iterable[str]) -> Composed:
    """Compose ``conf/`` with override words.

    Raises:
        ConfigError: an unknown key or option, a value of the wrong type, or a missing one.
    """
    words = [*search_path_word(tree, ours), *words]
    with _fresh_hydra(ours):
        try:
            config = hydra_compose(PRIMARY, overrides=words, return_hydra_config=True)
            choices = dict(config.hydra.runtime.choices)
            config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            OmegaConf.resolve(config)
            missing = sorted(OmegaConf.missing_keys(config))
            values = dict(flatten(OmegaConf.to_container(config)))  # type: ignore[arg-type]
            if missing:
                raise ConfigError(f"{missing[0]} has no value", hint=f"set {missing[0]}=...")
            run = RunConfig(**OmegaConf.to_object(config))  # type: ignore[arg-type]
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise one_line(error, tree) from None
    chosen = {group: option for group, option in choices.items() if option and group in tree.groups()}
    return Composed(values, chosen, run)


@contextmanager
def _fresh_hydra(ours: Path) -> "Iterator[None]":
    """Compose inside a running Hydra job, too, and leave its state as it was."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(ours)):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def one_line(error: Exception, tree: OptionTree) -> ConfigError:
    """Rewrite Hydra's and OmegaConf's errors as one line with the nearest names."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(error)
    groups = tree.groups()
    if match := re.search(r"Could not find '([\w-]+)/([^']+)'", text):
        group, option = match[1], match[2]
        return ConfigError(f"{group}={option} is no option", hint=nearest(option, groups.get(group, ())))
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1].split("@")[0], groups)
    if match := re.search(r"Key '([^']+)' (?:is )?not in|Key '([^']+)' is not in struct", str(cause)):
        full = re.search(r"full_key: (\S+)", str(cause))
        return unknown_key(full[1] if full else match[1] or match[2], groups)
    if "parsing" in text or "mismatched input" in text or "token recognition" in text:
        word = text.splitlines()[0]
        return ConfigError(word, hint="quote values that hold = , { } or spaces: 'key=\"a=b\"'")
    key = re.search(r"full_key: (\S+)", str(cause))
    first = str(cause).splitlines()[0]
    return ConfigError(f"{key[1]}: {first}" if key else first)


def unknown_key(key: str, groups: Iterable[str]) -> ConfigError:
    """Return the error for a key that no schema has, with the nearest one that exists."""
    return ConfigError(f"{key} is no key", hint=nearest(key, [*keys_of(RunConfig), *groups]))
