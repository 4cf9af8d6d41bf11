"""``migrate-env``: the command line and the YAML that say what the environment says now."""

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from sendnn_pipeline.config.command_line import parse_words
from sendnn_pipeline.config.environment import process_environment
from sendnn_pipeline.config.layers import as_word
from sendnn_pipeline.hooks.host import open_host


def main(argv: Sequence[str]) -> None:
    """Print both forms of every variable that is set; the words given are composed, too, so that errors show."""
    host = open_host(process_environment())
    host.layer(parse_words(argv))
    for warning in host.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if not host.env:
        sys.stdout.write("# no variable is set\n")
        return
    groups = host.tree.groups()
    # Later values hold: a SENDNN_PIPELINE__ variable over the registry's variable for the same key.
    values = {value.key: value for value in host.env}
    words = [_shell(as_word(value, groups)) for value in values.values()]
    sys.stdout.write("# command line\npython -m sendnn_pipeline " + " ".join([*words, *argv]) + "\n\n")
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
    sys.stdout.write("# @package _global_\n" + yaml.safe_dump(document | tree, sort_keys=False))


def _shell(word: str) -> str:
    return f"'{word}'" if any(mark in word for mark in '"[]{}() $&;*?') else word
