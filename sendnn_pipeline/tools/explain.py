"""``explain [KEY …] [key=value …]``: every value, what set it, what that overrode, and what the key is for."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import AppContext, load_command_line
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.app.start_check import check_described
from sendnn_pipeline.app.usage import target_keys, unused_by
from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.config.draft import Draft, Layer, Origin, write_value
from sendnn_pipeline.config.environment import API_KEY
from sendnn_pipeline.config.option_file import MISSING
from sendnn_pipeline.config.secrets import REDACTED
from sendnn_pipeline.errors import ConfigError, PipelineError, nearest
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.tools import shows_usage

UNDECIDED = ("auto", None)
CHANGED = "--changed"
CHANGED_HELP = "--changed shows only what is not default: set by you, or by a known configuration."


def main(argv: Sequence[str]) -> None:
    """Print the layers of keys and groups, or the whole table.

    Raises:
        ConfigError: a key is unknown, the overrides do not compose, or the run would be refused.
    """
    if shows_usage(argv, "explain", "[KEY or GROUP ...] [key=value ...] [--changed]", CHANGED_HELP):
        return
    context, command = load_command_line([word for word in argv if word != CHANGED], takes_names=True)
    resolution = _resolve(context, command.overrides)
    draft, docs = resolution.draft, context.schemas.docs()
    for warning in context.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    for notice in draft.notices:
        sys.stderr.write(f"note: {notice}\n")
    for key in _chosen(draft, command.names, changed=CHANGED in argv):
        owner = unused_by(key, resolution.used) if resolution.used else ""
        unused = f"it belongs to {owner}" if owner else draft.unused.get(key, "")
        sys.stdout.write(_explain(key, draft.origins[key], unused, resolution.note, docs))
    if resolution.refusal is None:
        config = draft.config()
        threads = plan_threads(config.process, context.environ, len(config.parallel.local_ranks))
        if _is_asked("process", argv, command.names):
            sys.stdout.write(f"threads of each engine process = {threads.count}\n  from {threads.reason}\n")
        if any(name.startswith("multimodal") for name in command.names):
            sys.stdout.write(f"threads of a vision encoder = {threads.encoder}\n  from {threads.reason}\n")
    if _is_asked("serve", argv, command.names):
        shown = REDACTED if context.environ.get(API_KEY) else "none"
        sys.stdout.write(f"API key = {shown}\n  from {API_KEY} or the file serve.api_key_file\n")
    if resolution.refusal is not None:
        sys.stdout.flush()
        raise ConfigError(f"this run would be refused: {resolution.refusal}")


def _is_asked(group: str, argv: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether what is no key of a group is shown, too."""
    return CHANGED not in argv and (not names or any(name.startswith(group) for name in names))


@dataclass(frozen=True)
class Resolution:
    """A draft, resolved as far as is possible without fetching anything."""

    draft: Draft
    used: tuple[str, ...] = ()
    """Keys that the run uses; empty where that is not known."""
    note: str = ""
    """Why it is not resolved."""
    refusal: PipelineError | None = None


def _resolve(context: AppContext, overrides: Sequence[Override]) -> Resolution:
    composed = compose_run(context, overrides)
    try:
        folder = composed.locate()
        if folder is None:
            return Resolution(composed.draft, note=f"needs {composed.draft['model.path']}, which is not fetched yet")
        resolved = resolve_run(context, composed, folder)
    except PipelineError as error:
        return Resolution(composed.draft, note="not resolved", refusal=error)
    used, refusal = (*resolved.engine.keys, *target_keys(context, resolved.draft)), None
    try:
        check_described(context, resolved)
    except PipelineError as error:
        refusal = error
    return Resolution(resolved.draft, used, refusal=refusal)


def _chosen(draft: Draft, names: Sequence[str], *, changed: bool) -> list[str]:
    """Return the keys of all ``names``, in order; of those, where it is asked for, only what is not default.

    Raises:
        ConfigError: a name is neither a key nor a group.
    """
    keys = sorted(draft.origins)
    for name in names:
        if not any(key == name or key.startswith(f"{name}.") for key in keys):
            raise ConfigError(f"unknown key {name}", hint=nearest(name, keys))
    if names:
        keys = [key for key in keys if any(key == name or key.startswith(f"{name}.") for name in names)]
    return [key for key in keys if not changed or any(map(_is_change, draft.origins[key]))]


def _is_change(origin: Origin) -> bool:
    return Layer.KNOWN <= origin.layer <= Layer.COMMAND_LINE


def _explain(key: str, origins: Sequence[Origin], unused: str, note: str, docs: Mapping[str, str]) -> str:
    first, *lost = origins
    suffix = f"   [not used by this run: {unused}]" if unused else ""
    suffix += f"   [{note}]" if note and first.value in UNDECIDED and first.layer < first.layer.MODEL else ""
    lines = [f"{key} = {_show(first)}{suffix}"]
    if key in docs:
        lines.append(f"  {docs[key].replace('`', '')}")
    lines.append(f"  from {first.where} ({first.layer})")
    lines += [
        f"  over {_show(origin)} from {origin.where} ({origin.layer})" for origin in lost if origin.value != MISSING
    ]
    return "\n".join(lines) + "\n"


def _show(origin: Origin) -> str:
    return write_value(origin.value).replace(",", ", ") if isinstance(origin.value, list) else write_value(origin.value)
