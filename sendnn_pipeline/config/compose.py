"""The one place that composes with Hydra: overrides in, plain values and the files they come from out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sendnn_pipeline.config.compose_errors import one_line, unknown_option
from sendnn_pipeline.config.option_file import find_problem, read_option
from sendnn_pipeline.config.option_loader import OptionLoader
from sendnn_pipeline.config.option_source import read_options_ourselves
from sendnn_pipeline.config.option_types import find_untyped
from sendnn_pipeline.config.options import PRIMARY, PROFILE, SCHEMA_SUFFIX, OptionTree
from sendnn_pipeline.config.references import resolve_references
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.config.schemas import SchemaStore
from sendnn_pipeline.errors import ConfigError

VERSION_BASE = "1.3"
HYDRA = "hydra"
# Of a file that is neither a mapping nor a list, and of a name that no file system takes, Hydra makes an OSError; of a
# circle of defaults, the third.
FAILURES = (HydraException, OmegaConfBaseException, RecursionError, YAMLError, OSError, ValueError)


@dataclass(frozen=True)
class OptionFile:
    """An option that is part of a composition, as Hydra's own defaults list has it."""

    group: str
    option: str
    file: Path
    parent: str
    """The file whose defaults list names it, without ending."""
    chosen_in: str
    """The file whose defaults list overrides the group to it; empty where none does."""
    values: Mapping[str, Any]
    """What it sets, by dotted key."""
    merged: Mapping[str, Any]
    """The same as Hydra merges it: with numbers that YAML makes of text."""

    @property
    def path(self) -> str:
        """Its name in defaults lists."""
        return f"{self.group}/{self.option}"


@dataclass(frozen=True)
class Composed:
    """One composition."""

    values: dict[str, Any]
    """Nested by group."""
    choices: dict[str, str]
    """The option chosen in each group."""
    schemas: dict[str, type]
    """The dataclass that types each group."""


def store_schemas(store: SchemaStore) -> None:
    """Hand the typed run and all typed options to Hydra."""
    hydra_store = ConfigStore.instance()
    # Hydra copies it whole for each list of options that it shows. What it reads there it copies again.
    ConfigStore.__deepcopy__ = lambda own, _: own  # type: ignore[attr-defined]
    root = deepcopy(typed_node(RunConfig))
    for group in {group for group, _ in store.schemas}:
        root[group] = typed_node(store.base(group))
    hydra_store.store(name="schema", node=root, provider="sendnn_pipeline")
    for (group, name), schema in store.schemas.items():
        if name:
            name_of_schema = f"{name}{SCHEMA_SUFFIX}"
            hydra_store.store(group=group, name=name_of_schema, node=typed_node(schema), provider=schema.__module__)


@lru_cache(maxsize=256)
def typed_node(schema: type) -> Any:
    """Return a schema as OmegaConf reads it, which copies it wherever it is put.

    Raises:
        OmegaConfBaseException: a field has a type that no key can have.
    """
    return _thaw(OmegaConf.structured(schema))


def _thaw(node: Any) -> Any:
    """Clear the read-only flags that frozen dataclasses leave behind, so that layers can merge."""
    OmegaConf.set_readonly(node, None)
    if isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict:
        # Its keys are the user's own, unlike those of a group.
        OmegaConf.set_struct(node, False)
    keys = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        child = node._get_node(key)  # OmegaConf has no public way to a node
        if isinstance(child, Container):
            _thaw(child)
    return node


def search_path_override(tree: OptionTree) -> list[str]:
    """Return the override that puts the plugins' folders on Hydra's search path."""
    others = [f"file://{folder}" for folder in tree.folders.values() if folder != tree.own]
    return [f"hydra.searchpath={quote(others)}"] if others else []


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
        case Mapping():
            # The grammar has no quotes around names.
            return "{" + ",".join(f"{name}:{quote(item)}" for name, item in value.items()) + "}"
        case _:
            return QuotedString(text=str(value), quote=Quote.double).with_quotes()


@dataclass(frozen=True)
class Composer:
    """Hydra over the folders of options, inside a running Hydra job, too."""

    tree: OptionTree
    schemas: SchemaStore
    loader: OptionLoader
    types: Mapping[str, Any]
    """Of all keys."""

    def option_files(self, overrides: Sequence[str]) -> list[OptionFile]:
        """Return the options that take part, in the order in which they are merged.

        Raises:
            ConfigError: an unknown option, or a file that cannot be read.
        """
        self._refuse_unknown(overrides)
        words = [*search_path_override(self.tree), *overrides]
        try:
            defaults = self.loader.compute_defaults_list(PRIMARY, words, RunMode.RUN)
            found = [self._option_file(default, defaults.overrides) for default in defaults.defaults]
        except FAILURES as error:
            raise self._in_a_file(self._explain(error, overrides), overrides) from None
        files = [file for file in found if file is not None]
        # What Hydra passes over in silence there: a choice that comes second, a profile within a profile.
        profiles = (find_problem(file.file, self.tree.groups, self.types) for file in files if file.group == PROFILE)
        merged = [default.config_path or "" for default in defaults.defaults]
        untyped = find_untyped(merged, {file.path: (file.file, file.values) for file in files}, self.schemas)
        if (problem := next(filter(None, profiles), untyped)) is not None:
            raise problem
        return files

    def _option_file(self, default: Any, overrides: Any) -> OptionFile | None:
        group, _, option = (default.config_path or "").partition("/")
        if group in (PRIMARY, HYDRA) or default.package == HYDRA or not option:
            return None
        file = self.tree.find(default.config_path)
        if file is None:
            # One of the schemas.
            return None
        content = self.loader.content(default.config_path)
        values, merged = read_option(file, content, default.package or "", self.types)
        chosen = overrides.override_metadata.get(group)
        chosen_in = "" if chosen is None or chosen.external_override else chosen.containing_config_path or ""
        return OptionFile(group, option, file, default.parent or "", chosen_in, values, merged)

    def _refuse_unknown(self, overrides: Sequence[str]) -> None:
        """Refuse an option that there is not: Hydra passes over one of the group of profiles."""
        for word in overrides:
            group, _, option = word.partition("=")
            if group in self.tree.groups and option not in self.tree.groups[group]:
                raise unknown_option(group, option, self.tree)

    def _in_a_file(self, error: ConfigError, overrides: Sequence[str]) -> ConfigError:
        """Return an error of choosing options with the file at fault, where only one is not ours."""
        files = {file for file in self._chosen(overrides) if not file.is_relative_to(self.tree.own)}
        if error.where or len(files) != 1 or str(*files) in error.message:
            return error
        return ConfigError(error.message, hint=error.hint, where=str(*files), key=error.key)

    def _chosen(self, overrides: Sequence[str]) -> list[Path]:
        named = [word.replace("=", "/", 1) for word in overrides if word.partition("=")[0] in self.tree.groups]
        return list(filter(None, map(self.tree.find, named)))

    def _explain(self, error: Exception, overrides: Sequence[str]) -> ConfigError:
        """Return the error for a file that is part of the composition and at fault, else for what Hydra says."""
        named = re.findall(r"'([\w.-]+/[\w.-]+)'", str(error))
        files = [*self._chosen(overrides), *filter(None, map(self.tree.find, named))]
        problems = filter(None, (find_problem(file, self.tree.groups, self.types) for file in files))
        return next(problems, None) or one_line(error, self.tree, self.schemas)

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Compose all options with overrides.

        Raises:
            ConfigError: an unknown key or option, a value of the wrong type, or a missing one.
        """
        words = [*search_path_override(self.tree), *overrides]
        try:
            config = self.loader.load_configuration(PRIMARY, words, RunMode.RUN, from_shell=False)
            choices = dict(config.hydra.runtime.choices)
            config = OmegaConf.masked_copy(config, [str(key) for key in config if key != HYDRA])
            resolve_references(config)
            missing = sorted(OmegaConf.missing_keys(config))
            if missing:
                raise ConfigError(f"{missing[0]} has no value", hint=f"set {missing[0]}=...")
            values: Any = OmegaConf.to_container(config, enum_to_str=True)
        except FAILURES as error:
            raise self._explain(error, overrides) from None
        schemas = {
            str(group): kind
            for group in config
            if isinstance(config[group], DictConfig)
            and isinstance(kind := OmegaConf.get_type(config, str(group)), type)
        }
        chosen = {group: option for group, option in choices.items() if option and group in self.tree.groups}
        return Composed(values, chosen, schemas)


@contextmanager
def open_composer(tree: OptionTree, schemas: SchemaStore) -> Iterator[Composer]:
    """Have Hydra look into the folders; its state outside is left as it was."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    types = schemas.keys()
    read_options_ourselves(types)
    try:
        with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(tree.own)):
            search_path = GlobalHydra.instance().config_loader().get_search_path()
            yield Composer(tree, schemas, OptionLoader(search_path), types)
    finally:
        GlobalHydra.instance().hydra = outer
