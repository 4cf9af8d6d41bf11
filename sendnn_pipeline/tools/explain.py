"""``explain [KEY] [key=value …]``: every value, what set it, what that overrode, and what the key is for."""

import sys
from collections.abc import Mapping, Sequence

from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.app.resolve import compose_run, resolve_run
from sendnn_pipeline.app.usage import target_keys, unused_by
from sendnn_pipeline.config.command_line import Override, parse_command_line
from sendnn_pipeline.config.draft import Draft, Origin, write_value
from sendnn_pipeline.config.environment import API_KEY, process_environment
from sendnn_pipeline.config.secrets import REDACTED
from sendnn_pipeline.errors import ConfigError, PipelineError, nearest
from sendnn_pipeline.tools import shows_usage

UNDECIDED = ("auto", None)


def main(argv: Sequence[str]) -> None:
    """Print the layers of one key, of a group, or the whole table.

    Raises:
        ConfigError: the key is unknown, or the overrides do not compose.
    """
    if shows_usage(argv, "explain", "[KEY or GROUP] [key=value ...]"):
        return
    key = argv[0] if argv and "=" not in argv[0] and not argv[0].startswith("-") else None
    command = parse_command_line(argv if key is None else argv[1:])
    context = load_context(process_environment(), command.config_dir)
    draft, used, note = _resolve(context, command.overrides)
    docs = context.schemas.docs()
    keys = sorted(draft.origins)
    if key is not None:
        keys = [known for known in keys if known == key or known.startswith(f"{key}.")]
        if not keys:
            raise ConfigError(f"unknown key {key}", hint=nearest(key, draft.origins))
    for warning in context.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    for known in keys:
        owner = unused_by(known, used) if used else ""
        unused = f"it belongs to {owner}" if owner else draft.unused.get(known, "")
        sys.stdout.write(_explain(known, draft.origins[known], unused, note, docs))
    if key is None or key.startswith("serve"):
        shown = REDACTED if context.environ.get(API_KEY) else "none"
        sys.stdout.write(f"API key = {shown}\n  from {API_KEY} or the file serve.api_key_file\n")


def _resolve(context: AppContext, overrides: Sequence[Override]) -> tuple[Draft, tuple[str, ...], str]:
    """Resolve as far as is possible without fetching anything.

    Returns:
        The draft, the keys that the run uses, empty where that is not known, and why it is not resolved.
    """
    composed = compose_run(context, overrides)
    folder = composed.locate()
    if folder is None:
        return composed.draft, (), f"needs {composed.draft['model.path']}, which is not fetched yet"
    try:
        resolved = resolve_run(context, composed, folder)
    except PipelineError as error:
        sys.stderr.write(f"warning: the run would be refused: {error}\n")
        return composed.draft, (), "not resolved"
    return resolved.draft, (*resolved.engine.keys, *target_keys(context, resolved.draft)), ""


def _explain(key: str, origins: Sequence[Origin], unused: str, note: str, docs: Mapping[str, str]) -> str:
    first, *lost = origins
    suffix = f"   [not used by this run: {unused}]" if unused else ""
    suffix += f"   [{note}]" if note and first.value in UNDECIDED and first.layer < first.layer.MODEL else ""
    lines = [f"{key} = {_show(first)}{suffix}"]
    if key in docs:
        lines.append(f"  {docs[key].replace('`', '')}")
    lines.append(f"  from {first.where} ({first.layer})")
    lines += [f"  over {_show(origin)} from {origin.where} ({origin.layer})" for origin in lost]
    return "\n".join(lines) + "\n"


def _show(origin: Origin) -> str:
    return write_value(origin.value).replace(",", ", ") if isinstance(origin.value, list) else write_value(origin.value)
