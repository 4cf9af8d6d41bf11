"""``explain [KEY] [key=value …]``: every value, what set it, and what that overrode."""

import sys
from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.config.command_line import parse_command_line
from sendnn_pipeline.config.environment import API_KEY, process_environment
from sendnn_pipeline.config.layers import Origin, Provenance
from sendnn_pipeline.config.secrets import REDACTED
from sendnn_pipeline.config.usage import unused_by
from sendnn_pipeline.errors import ConfigError, PipelineError, nearest
from sendnn_pipeline.hooks.host import Host, open_host
from sendnn_pipeline.pipeline.describe import describe, read_and_resolve

NEEDS_MODEL = ("engine.name", "engine.pooling", "engine.normalize", "model.max_model_len", "model.matryoshka")


def main(argv: Sequence[str]) -> None:
    """Print the layers of one key, of a group, or the whole table.

    Raises:
        ConfigError: there is no such key, or the words do not compose.
    """
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write("usage: python -m sendnn_pipeline explain [KEY or GROUP] [key=value ...]\n")
        return
    key = argv[0] if argv and "=" not in argv[0] and not argv[0].startswith("-") else None
    command = parse_command_line(argv if key is None else argv[1:])
    host = open_host(process_environment(), command.config_dir)
    provenance, note = _provenance(host, command.words)
    keys = sorted(provenance.origins)
    if key is not None:
        keys = [known for known in keys if known == key or known.startswith(f"{key}.")]
        if not keys:
            raise ConfigError(f"{key} is no key", hint=nearest(key, provenance.origins))
    for warning in host.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    engine, task, target = (
        provenance.origins[name][0].value for name in ("engine.name", "engine.task", "serve.target")
    )
    for known in keys:
        unused = unused_by(known, engine=engine, task=task, target=target)
        sys.stdout.write(_explained(known, provenance.origins[known], unused, note))
    if key is None or key.startswith("serve"):
        held = REDACTED if host.environ.get(API_KEY) else "none"
        sys.stdout.write(f"API key = {held}\n  from {API_KEY} or the file serve.api_key_file\n")


def _provenance(host: Host, words: Any) -> tuple[Provenance, str]:
    """Resolve as far as is possible without fetching anything."""
    described = describe(host, words)
    folder = described.source.locate(described.model, described.cache_dir)
    if folder is None:
        return described.layered.provenance, f"needs {described.model.path}, which is not fetched yet"
    try:
        return read_and_resolve(host, described, folder)[0].provenance, ""
    except PipelineError as error:
        sys.stderr.write(f"warning: the run would be refused: {error}\n")
        return described.layered.provenance, "not resolved"


def _explained(key: str, origins: Sequence[Origin], unused: str, note: str) -> str:
    held, *lost = origins
    suffix = f"   [not used by this run: it belongs to {unused}]" if unused else ""
    undecided = held.value in ("auto", None) and (key in NEEDS_MODEL or key == "warmup.shapes")
    suffix += f"   [{note}]" if note and undecided else ""
    lines = [f"{key} = {_shown(held.value)}{suffix}", f"  from {held.where} ({held.layer})"]
    lines += [f"  over {_shown(origin.value)} from {origin.where} ({origin.layer})" for origin in lost]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list | tuple) else str(value)
