"""``catalog list|show|verify|prune``: the store of compiled Programs."""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from sendnn_pipeline.app.context import load_command_line
from sendnn_pipeline.app.resolve import compose_run
from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.programs.artifact import MANIFEST, Artifact
from sendnn_pipeline.programs.store import ArtifactStore, store_at

DAY_SECONDS = 86400.0


def main(argv: Sequence[str]) -> None:
    """Do what the first word names, on the store that the key=value words name.

    Raises:
        ArtifactError: no artifact has the digest asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m sendnn_pipeline catalog", description=__doc__)
    parser.add_argument("action", choices=("list", "show", "verify", "prune"))
    parser.add_argument("digest", nargs="?", default="", help="show: the first digits of an artifact's digest")
    parser.add_argument("words", nargs="*", metavar="key=value", help="such as artifacts.dir= or cache_dir=")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of your own")
    arguments = parser.parse_intermixed_args(list(argv))
    words = [word for word in (arguments.digest, *arguments.words) if "=" in word]
    flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    context, command = load_command_line([*flags, *words])
    composed = compose_run(context, command.overrides)
    options = composed.draft.config().artifacts
    store = store_at(options, composed.draft.cache_dir)
    console = open_console()
    if arguments.action == "list":
        _list(store, console)
    elif arguments.action == "show":
        _show(store, "" if "=" in arguments.digest else arguments.digest, console)
    elif arguments.action == "verify":
        _verify(store, console)
    else:
        _prune(store, options.max_bytes, console)


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
    console.print(f"{len(entries)} artifacts, {total / 2**20:.1f} MiB in {store.folder}", markup=False)


def _show(store: ArtifactStore, digest: str, console: Console) -> None:
    found = [artifact for artifact in store.entries() if digest and artifact.key.digest.startswith(digest)]
    if len(found) != 1:
        raise ArtifactError(
            f"{len(found)} artifacts have a digest that begins with {digest!r}", hint="catalog list names them"
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
    console.print(f"{len(store.entries())} artifacts, {len(damaged)} not to be used", markup=False)
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
