"""``migrate-env``: what the environment sets now, as a command line and as YAML."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.compose import quote
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.tools import shows_usage


def main(argv: Sequence[str]) -> None:
    """Print both forms of every variable that is set, retired ones under their new names; errors of ``argv`` show."""
    if shows_usage(argv, "migrate-env", "[key=value ...]"):
        return
    context = load_context(process_environment(), adopt_retired=True)
    context.compose(parse_overrides(argv))
    for warning in context.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if not context.env:
        sys.stdout.write("# no variable is set\n")
        return
    groups = context.tree.groups
    # Later values hold: a SENDNN_PIPELINE__ variable over the registry's variable for the same key.
    values = {value.key: value for value in context.env}
    words = [f"{key}={value.value if key in groups else quote(value.value)}" for key, value in values.items()]
    sys.stdout.write(f"# command line\npython -m sendnn_pipeline {shlex.join([*words, *argv])}\n\n")
    chosen = {key: value.value for key, value in values.items() if key in groups}
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if key not in groups:
            *parents, leaf = key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value.value
    document: dict[str, Any] = {}
    if chosen:
        document["defaults"] = [{f"override /{group}": option} for group, option in chosen.items()]
    sys.stdout.write("# yaml: save as FOLDER/profile/site.yaml, then run with --config-dir FOLDER profile=site\n")
    sys.stdout.write("# @package _global_\n" + OmegaConf.to_yaml(document | tree))
