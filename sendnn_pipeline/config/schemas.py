"""The schemas of options: which classes there are, which keys they have, of which types, and what each key is for."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, make_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from sendnn_pipeline.config.accepted import without_none
from sendnn_pipeline.config.options import flatten
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import PluginError, nearest

T = TypeVar("T")
# The group whose schemas are there all at once.
OBSERVE = "observe"


@dataclass
class SchemaStore:
    """Typed options of config groups; passed to ``register_schemas``."""

    schemas: dict[tuple[str, str], type] = field(default_factory=dict)
    check: Callable[[type], object] = lambda schema: None
    """Raises where a field has a type that no key can have."""

    def __call__(self, group: str, name: str, schema: type) -> None:
        """Make ``schema``, a frozen dataclass, known as ``{name}_schema`` of ``group``; without a name, for all of it.

        Raises:
            PluginError: the name is taken in that group, or cannot be the name of a part.
            TypeError: it is not a dataclass that can be made without arguments or not of its group, or there is none.
        """
        if not (isinstance(schema, type) and is_dataclass(schema)):
            raise TypeError(f"the schema of {group}/{name} is not a dataclass, but {schema!r}")
        if group not in get_type_hints(RunConfig):
            raise TypeError(f"there is no group {group} for a schema; {nearest(str(group), get_type_hints(RunConfig))}")
        keys_of(schema), asdict(schema())
        own = get_type_hints(RunConfig)[group]
        if group != OBSERVE and not issubclass(schema, own):
            hint = f"write class {schema.__name__}({own.__name__})"
            raise TypeError(f"the schema of {group}/{name} is not a {own.__name__}; {hint}")
        self.check(schema)
        if group == OBSERVE and not name.isidentifier():
            raise PluginError(f"schema {schema.__name__} of {OBSERVE} needs a name such as acme, not {name!r}")
        taken = self.schemas.get((group, name), schema)
        if taken is not schema:
            raise PluginError(f"schema {group}/{name} is registered by {taken.__module__} and {schema.__module__}")
        self.schemas[group, name] = schema

    def base(self, group: str) -> type:
        """Return the schema that every option of a group starts from: the group's own, with all that its plugins add.

        ``engine=auto`` takes the keys of every engine: which one runs is decided later. ``observe`` has no options:
        each of its schemas is a part of its own.
        """
        own: type = get_type_hints(RunConfig)[group]
        if group == OBSERVE:
            return _nest(own, {option: schema for (name, option), schema in self.schemas.items() if name == group})
        if group == "engine":
            parts = [schema for (name, _), schema in sorted(self.schemas.items(), key=str) if name == group]
            return _join(own, tuple(parts)) if parts else own
        return self.schemas.get((group, ""), own)

    def keys(self) -> dict[str, Any]:
        """Return the type of every key of every option; ``Any`` where several options type one key differently."""
        own, types = keys_of(RunConfig), dict[str, Any]()
        for _, kinds in self._by_option(keys_of):
            for key, kind in kinds.items():
                types[key] = _common(types.get(key, kind), kind)
        return own | {key: kind for key, kind in types.items() if key not in own}

    def docs(self) -> dict[str, str]:
        """Return what every key is for, naming the options that have it where not all of the group have."""
        own, found = docs_of(RunConfig), dict[str, dict[str, list[str]]]()
        for option, texts in self._by_option(docs_of):
            for key, text in texts.items():
                found.setdefault(key, {}).setdefault(text, []).append(option)
        return own | {key: _join_docs(texts) for key, texts in found.items() if key not in own}

    def defaults(self) -> dict[str, Any]:
        """Return the schema default of every key; of one that several options have, the first one's."""
        values: dict[str, Any] = {}
        for _, defaults in self._by_option(_defaults_of):
            values = defaults | values
        return values | _defaults_of(RunConfig)

    def owners(self, key: str) -> list[str]:
        """Return the options that have a key which not all of its group have."""
        if key in keys_of(RunConfig):
            return []
        return [option for option, kinds in self._by_option(keys_of) if option and key in kinds]

    def _by_option(self, read: Callable[[type, str], T]) -> Iterator[tuple[str, T]]:
        """Read every registered schema; with the option whose it is, empty for one of a whole group."""
        for (group, name), schema in self.schemas.items():
            if group == OBSERVE:
                yield "", read(schema, f"{group}.{name}")
            else:
                yield f"{group}={name}" if name else "", read(schema, group)


def _nest(own: type, parts: Mapping[str, type]) -> type:
    """Make one class of several, each below its name."""
    added = [(name, schema, field(default_factory=schema)) for name, schema in sorted(parts.items())]
    return make_dataclass(own.__name__, added, bases=(own,), frozen=True, kw_only=True)


def _join_docs(texts: Mapping[str, Sequence[str]]) -> str:
    return " ".join(
        f"{' and '.join(f'`{option}`' for option in options)}: {text}" if all(options) else text
        for text, options in texts.items()
    )


def _defaults_of(schema: type, prefix: str = "") -> dict[str, Any]:
    # A group without parts has no keys.
    return {key: value for key, value in flatten(asdict(schema()), prefix) if key != OBSERVE}


def _join(own: type, parts: tuple[type, ...]) -> type:
    """Make one class with the fields of several; one that they type differently is left to the engine that runs."""
    types: dict[str, Any] = {}
    for part in parts:
        for entry in fields(part):
            kind = get_type_hints(part)[entry.name]
            types[entry.name] = kind if types.get(entry.name, kind) == kind else Any
    values = {entry.name: entry for part in reversed(parts) for entry in fields(part)}
    own_names = {entry.name for entry in fields(own)}
    added = [
        (name, kind, field(default=values[name].default, default_factory=values[name].default_factory))
        for name, kind in types.items()
        if name not in own_names
    ]
    return make_dataclass(own.__name__, added, bases=(own,), frozen=True, kw_only=True)


def keys_of(schema: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of every leaf of a dataclass by dotted key, bounds included."""
    keys: dict[str, Any] = {}
    hints = get_type_hints(schema, include_extras=True)
    for entry in fields(schema):
        key = f"{prefix}.{entry.name}" if prefix else entry.name
        kind = hints[entry.name]
        if is_dataclass(kind):
            keys.update(keys_of(kind, key))  # type: ignore[arg-type]
        else:
            keys[key] = kind
    return keys


def docs_of(schema: type, prefix: str = "") -> dict[str, str]:
    """Return the text under every field of a dataclass by dotted key."""
    docs: dict[str, str] = {}
    hints = get_type_hints(schema)
    for base in reversed(schema.__mro__):
        if not is_dataclass(base):
            continue
        for name, text in _texts(base).items():
            docs[f"{prefix}.{name}" if prefix else name] = text
    for entry in fields(schema):
        if is_dataclass(hints[entry.name]):
            docs.update(docs_of(hints[entry.name], f"{prefix}.{entry.name}" if prefix else entry.name))
    return docs


@lru_cache(maxsize=256)
def _texts(schema: type) -> Mapping[str, str]:
    """Read the literals under a class's fields; Python keeps them in the source only."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(schema)))
    except (OSError, TypeError, SyntaxError):
        return {}
    (node,) = tree.body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for entry, after in zip(node.body, node.body[1:], strict=False):
        match entry, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                texts[name] = " ".join(str(text).split())
    return texts


def _common(one: Any, other: Any) -> Any:
    """Return the type of a key to which two options give these; ``Any`` unless they differ in null alone."""
    if one == other or without_none(one) == other:
        return one
    return other if without_none(other) == one else Any
