"""``catalog list|show|verify|prune|export|import``: the store of compiled Programs."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sendnn_pipeline.app.composed import ComposedRun, compose_run
from sendnn_pipeline.app.context import AppContext, load_command_line
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.app.stored import stored_artifacts
from sendnn_pipeline.backends.create import create_backend
from sendnn_pipeline.backends.stores import kept_store, timing_folders
from sendnn_pipeline.errors import ArtifactError, ConfigError, counted
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact, file_digest
from sendnn_pipeline.programs.bundle import export_artifacts, import_artifacts
from sendnn_pipeline.programs.store import ArtifactStore, store_at
from sendnn_pipeline.programs.times import StepTimes, on_any_machine
from sendnn_pipeline.tools import ToolParser

DAY_SECONDS = 86400.0
TAKING_SUBJECT = ("show", "export", "import")


def main(argv: Sequence[str]) -> None:
    """Do what the first word names, on the store that the key=value words name.

    Raises:
        PipelineError: no artifact has the digest asked for; a file cannot be exported or imported.
    """
    parser = ToolParser("catalog", __doc__)
    parser.add_argument("action", choices=("list", "show", "verify", "prune", "export", "import"))
    what = "show: the first digits of an artifact's digest; export, import: a file"
    parser.add_argument("subject", nargs="?", default="", help=what)
    parser.add_argument(
        "words", nargs="*", default=[], metavar="key=value", help="such as artifacts.dir=; export: a whole run"
    )
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of your own")
    arguments = parser.parse_intermixed_args(list(argv))
    words = [word for word in (arguments.subject, *arguments.words) if "=" in word]
    flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    context, command = load_command_line([*flags, *words])
    composed = compose_run(context, command.overrides)
    options, console = composed.draft.config().artifacts, open_console()
    store = _store(context, composed)
    subject = "" if "=" in arguments.subject else arguments.subject
    if subject and arguments.action not in TAKING_SUBJECT:
        raise ConfigError(f"catalog {arguments.action} takes no {subject}", hint="it is about the whole store")
    if arguments.action == "show" and not subject:
        raise ConfigError("catalog show needs the first digits of a digest", hint="catalog list names them")
    if arguments.action in ("export", "import") and not subject:
        raise ConfigError(f"catalog {arguments.action} needs a file", hint=f"catalog {arguments.action} run.artifacts")
    if arguments.action == "list":
        _list(store, console)
    elif arguments.action == "show":
        _show(store, subject, console)
    elif arguments.action == "verify":
        _verify(store, console)
    elif arguments.action == "export":
        times = StepTimes(timing_folders(composed.draft.cache_dir, store))
        if _names_model(composed):
            exported, recorded = _of_run(context, [*flags, *words], times)
        else:
            exported, recorded = _whole(store), times.recorded()
        _export(exported, recorded, Path(subject), console)
    elif arguments.action == "import":
        _import(Path(subject), store, options.max_bytes, console)
    else:
        _prune(store, options.max_bytes, console)


def _store(context: AppContext, composed: ComposedRun) -> ArtifactStore:
    """Return the store of the words' backend: that of its library's own cache, where it keeps one."""
    draft = composed.draft
    config = draft.config()
    backend = create_backend(context.plugins, config.backend, where=draft.where("backend.name"))
    kept = kept_store(config.artifacts, draft.cache_dir, backend, context.environ)
    return kept or store_at(config.artifacts, draft.cache_dir)


def _names_model(composed: ComposedRun) -> bool:
    return "model.path" in composed.draft.named_keys() or "model" in composed.draft.named_keys()


def _of_run(context: AppContext, words: Sequence[str], times: StepTimes) -> tuple[list[Artifact], Mapping[str, Any]]:
    """Return all artifacts of the run that the words describe, and what was measured of them.

    Raises:
        ArtifactError: one is missing, or not to be used.
    """
    context, command = load_command_line([*words, "artifacts.require=false"])
    composed = compose_run(context, command.overrides)
    resolved = resolve_run(context, composed, composed.fetch())
    if resolved.missing:
        each = "; ".join(f"{name}: {reason}" for name, reason in resolved.missing.items())
        compiling = "compile it first, by the same words with pipeline=precompile"
        can = resolved.backend.limits.artifacts != "none"
        hint = compiling if can else "choose a backend that keeps artifacts, such as backend=inductor"
        raise ArtifactError(f"nothing to export of this run: {each}", hint=hint)
    artifacts = stored_artifacts(context.plugins, resolved.run, resolved.backend, context.environ)
    return artifacts, times.recorded(on_any_machine(resolved.run.timing_prefix))


def _whole(store: ArtifactStore) -> list[Artifact]:
    """Return all artifacts of the store.

    Raises:
        ArtifactError: there are none, or one is not to be used.
    """
    for folder, reason in store.damaged().items():
        raise ArtifactError(f"{folder.name} is not exported: {reason}", hint="remove what is damaged: catalog prune")
    found = store.entries()
    if not found:
        raise ArtifactError(f"there are no artifacts in {store.folder}", hint="compile with pipeline=precompile")
    return found


def _export(artifacts: Sequence[Artifact], step_ms: Mapping[str, Any], file: Path, console: Console) -> None:
    export_artifacts(artifacts, file, step_ms)
    _say_each("exported", artifacts, console)
    for name in step_ms:
        console.print(f"with step times of {name}", markup=False, soft_wrap=True)
    size = file.stat().st_size / 2**20
    console.print(f"{file}, {size:.1f} MiB, sha256 {file_digest(file)}", markup=False, soft_wrap=True)


def _import(file: Path, store: ArtifactStore, max_bytes: int, console: Console) -> None:
    before = {artifact.key.digest: artifact.manifest_digest for artifact in store.entries()}
    taken = import_artifacts(file, store, max_bytes)
    same = [artifact for artifact in taken if before.get(artifact.key.digest) == artifact.manifest_digest]
    _say_each("imported", [artifact for artifact in taken if artifact not in same], console)
    _say_each("already there", same, console)
    console.print(f"into {store.folder}", markup=False, soft_wrap=True)


def _say_each(what: str, artifacts: Sequence[Artifact], console: Console) -> None:
    for artifact in artifacts:
        about = f"{what} {artifact.key.digest}  {artifact.size_bytes / 2**20:.1f} MiB  {artifact.model}, "
        console.print(f"{about}{artifact.key.program}", markup=False, soft_wrap=True)


def _list(store: ArtifactStore, console: Console) -> None:
    entries = store.entries()
    # A terminal is too narrow for all of it: names have a line of their own there.
    between = "\n  " if console.is_terminal else "  "
    if entries:
        console.print(
            f"{'digest':<18}{'backend':<12}{'dtype':<10}{'size':>11}  {'last used':<13}{between}model, Program"
        )
    for artifact in entries:
        fields = dict(artifact.key.fields)
        days = (time.time() - artifact.used) / DAY_SECONDS
        backend, dtype, size = fields.get("backend", ""), fields.get("dtype", ""), artifact.size_bytes / 2**20
        about = f"{artifact.key.digest:<18}{backend:<12}{dtype:<10}{size:>7.1f} MiB  {f'{days:.1f} days ago':<13}"
        name = f"{artifact.model or fields.get('model', '')}, {artifact.key.program}"
        console.print(f"{about}{between}{name}", markup=False)
    total = sum(artifact.size_bytes for artifact in entries)
    console.print(f"{counted(len(entries), 'artifact')}, {total / 2**20:.1f} MiB in {store.folder}", markup=False)


def _show(store: ArtifactStore, digest: str, console: Console) -> None:
    found = [artifact for artifact in store.entries() if digest and artifact.key.digest.startswith(digest)]
    if len(found) != 1:
        raise ArtifactError(
            f"{'no' if not found else len(found)} artifacts have a digest that begins with {digest!r}",
            hint="catalog list names them",
        )
    (artifact,) = found
    for name, value in artifact.key.fields:
        console.print(f"{name:<14}{value}", markup=False)
    for name, (size, sha256) in artifact.files.items():
        console.print(f"{name:<24}{size:>12} bytes  sha256 {sha256}", markup=False)
    trusted = f"sha256 {artifact.manifest_digest}  (what artifacts.trusted takes)"
    console.print(f"{MANIFEST:<24}{'':>12}        {trusted}", markup=False)
    console.print(str(artifact.folder), markup=False)


def _verify(store: ArtifactStore, console: Console) -> None:
    damaged = store.damaged()
    for folder, reason in damaged.items():
        console.print(f"{folder.name}: {reason}", markup=False)
    console.print(f"{counted(len(store.entries()), 'artifact')}, {len(damaged)} not to be used", markup=False)
    if damaged:
        sys.exit(1)


def _prune(store: ArtifactStore, max_bytes: int, console: Console) -> None:
    removed: list[Artifact] = store.prune(max_bytes)
    for artifact in removed:
        console.print(f"removed {artifact.folder.name}, {artifact.size_bytes / 2**20:.1f} MiB", markup=False)
    for folder, reason in store.damaged().items():
        shutil.rmtree(folder)
        console.print(f"removed {folder.name}: {reason}", markup=False)
    _list(store, console)
