"""The README's generated tables; ``python -m tests.contract.tables`` writes them anew."""

import re
from enum import EnumType
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.app.usage import unused_by
from sendnn_pipeline.config.accepted import without_none
from sendnn_pipeline.config.draft import write_value
from sendnn_pipeline.config.environment import PLUGINS_DENY
from sendnn_pipeline.config.ignored import read_retired
from sendnn_pipeline.config.options import NOT_GROUPS, own_conf_dir
from sendnn_pipeline.hooks.specs import PROJECT
from sendnn_pipeline.known.entry import Runtime, read_known
from sendnn_pipeline.multimodal.adapters import adapter_registry

ROOT = Path(__file__).parents[2]
PLAIN = {bool: "true or false", int: "int", float: "float", str: "text", Any: "any"}


def own_context() -> AppContext:
    """Return what can be run without plugins, whichever are installed."""
    plugins = {entry.name for entry in entry_points(group=PROJECT)}
    return load_context({PLUGINS_DENY: ",".join(plugins)} if plugins else {})


def write_type(kind: Any) -> str:
    """Write a key's type in words: ``int >= 1 or null``, ``embed or classify``."""
    plain = without_none(kind)
    words = _write_plain(plain)
    bounds = next((meta for part in _parts(kind) for meta in getattr(part, "__metadata__", ())), None)
    if isinstance(bounds, msgspec.Meta):
        limits = ((">=", bounds.ge), (">", bounds.gt), ("<=", bounds.le), ("<", bounds.lt))
        words += " and".join(f" {sign} {limit}" for sign, limit in limits if limit is not None)
    return f"{words} or null" if type(None) in get_args(kind) else words


def _parts(kind: Any) -> tuple[Any, ...]:
    return (kind,) if get_origin(kind) is Annotated else (kind, *get_args(kind))


def _write_plain(plain: Any) -> str:
    if isinstance(plain, EnumType):
        *others, last = plain.__members__
        return f"{', '.join(others)} or {last}"
    if get_origin(plain) is list:
        return f"list of {write_type(get_args(plain)[0])}"
    return "mapping of text" if get_origin(plain) is dict else PLAIN[plain]


def missing_part(context: AppContext, key: str) -> str:
    """Return what a key needs that is not there yet, in words; empty where some engine or target uses it."""
    plugins = context.plugins
    users = [
        *plugins.registry("register_engines", "engine").values().values(),
        *plugins.registry("register_serve_targets", "serve target").values().values(),
    ]
    part, comma, _ = unused_by(key, tuple(key for user in users for key in user.keys)).partition(", which")
    return part if comma else ""


def keys_table(context: AppContext) -> str:
    """Return the table of keys."""
    keys, docs, defaults = context.schemas.keys(), context.schemas.docs(), context.schemas.defaults()
    lines = ["| key | type or choices | default | what it is for |", "|---|---|---|---|"]
    for key in sorted(keys):
        missing = missing_part(context, key)
        doc = docs[key] + (f" *No effect yet: needs {missing}.*" if missing else "")
        lines.append(f"| `{key}` | {write_type(keys[key])} | {_write_default(defaults[key])} | {doc} |")
    return "\n".join(lines)


def _write_default(value: Any) -> str:
    if value == "???":
        return "set by the option"
    return f"`{write_value(value)}`" if value != "" else "empty"


def variables_table(context: AppContext) -> str:
    """Return the table of environment variables."""
    lines = ["| variable | key | registry default | what it does |", "|---|---|---|---|"]
    for row in context.rows.values():
        missing = missing_part(context, row.key)
        doc = row.doc + (f" *Accepted, no effect yet: needs {missing}.*" if missing else "")
        lines.append(f"| `{row.variable}` | `{row.key}` | {row.default or 'none'} | {doc} |")
    return "\n".join(lines)


def retired_table(context: AppContext) -> str:
    """Return the table of variables that are no longer read."""
    retired = read_retired(context.tree.folders)
    lines = ["| retired | replaced by |", "|---|---|"]
    lines += [f"| `{old}*` | `{new}*`, or what replaced that |" for old, new in retired.prefixes.items()]
    lines += [f"| `{variable}` | {text} |" for variable, text in retired.replacements.items()]
    return "\n".join(lines)


def options_table(context: AppContext) -> str:
    """Return the table of groups and options."""
    lines = ["| option | what it is |", "|---|---|"]
    for file in sorted(context.tree.own.glob("*/*.yaml")):
        comment = re.match(r"# (?!@)(.*)", file.read_text())
        if file.parent.name not in NOT_GROUPS:
            lines.append(f"| `{file.parent.name}={file.stem}` | {comment[1] if comment else ''} |")
    return "\n".join(lines)


def known_table(_: AppContext) -> str:
    """Return the table of known configurations."""
    lines = ["| `known=` | for | machines | ranks: length x sequences, or shapes |", "|---|---|---|---|"]
    for known in read_known(own_conf_dir() / "known"):
        names = ", ".join(f"`{name}`" for name in known.names)
        comment = Path(known.where).read_text().splitlines()[0].removeprefix("# ").removesuffix(".")
        runtimes = "; ".join(_runtime(runtime) for runtime in known.runtimes)
        lines.append(f"| {names} | {comment} | {', '.join(known.platforms)} | {runtimes} |")
    return "\n".join(lines)


def _runtime(runtime: Runtime) -> str:
    values = runtime.values
    if "warmup.shapes" in values:
        return f"{runtime.tp_size}: {', '.join(values['warmup.shapes'])}"
    blocks = f", {values['cache.num_blocks']} blocks" if "cache.num_blocks" in values else ""
    return f"{runtime.tp_size}: {values['model.max_model_len']} x {values['scheduler.max_num_seqs']}{blocks}"


def architectures_table(context: AppContext) -> str:
    """Return the table of architectures that read images."""
    lines = ["| `model_type` | such as |", "|---|---|"]
    adapters = adapter_registry(context.plugins).values()
    return "\n".join([*lines, *(f"| `{name}` | {adapter.examples} |" for name, adapter in sorted(adapters.items()))])


TABLES = {
    "keys": keys_table,
    "variables": variables_table,
    "retired": retired_table,
    "options": options_table,
    "known": known_table,
    "architectures": architectures_table,
}


def marked(name: str, table: str) -> str:
    """Return a table between its marks."""
    return f"<!-- {name} -->\n{table}\n<!-- /{name} -->"


def main() -> None:
    """Write the tables between their marks."""
    readme, context = ROOT / "README.md", own_context()
    text = readme.read_text()
    for name, write in TABLES.items():
        table = marked(name, write(context))
        text = re.sub(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, t=table: t, text, flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    main()
