"""``tune TRACE``: the shapes that cost a workload the least, written as an option of ``warmup``."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from sendnn_pipeline.config.auto_shapes import Choice, choose_fixed, choose_range
from sendnn_pipeline.config.command_line import parse_command_line
from sendnn_pipeline.config.environment import process_environment
from sendnn_pipeline.config.step_cost import UNMEASURED
from sendnn_pipeline.config.workload import read_trace
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.hooks.host import open_host
from sendnn_pipeline.pipeline.choose import measured_cost
from sendnn_pipeline.pipeline.describe import describe, read_and_resolve

BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16)


def main(argv: Sequence[str]) -> None:
    """Print what each choice is expected to cost, and write the best that the backend can compile.

    Raises:
        ConfigError: the trace cannot be used, or the file cannot be written.
        ModelError: the model was not fetched yet.
    """
    parser = argparse.ArgumentParser(prog="python -m sendnn_pipeline tune", description=__doc__)
    parser.add_argument("trace", help="a number of tokens a line, or JSON lines such as the perf log's")
    parser.add_argument("--name", default="tuned", help="of the option that is written")
    parser.add_argument("--into", default=".", help="folder that takes warmup/NAME.yaml; give it to --config-dir")
    parser.add_argument("--fixed", action="store_true", help="choose fixed shapes, also where ranges can be compiled")
    parser.add_argument("words", nargs="*", metavar="key=value", help="the run, such as model= and backend=")
    given = parser.parse_intermixed_args(list(argv))
    if not re.fullmatch(r"[A-Za-z_]\w*", given.name):
        raise ConfigError(f"--name {given.name} is no name of an option")
    workload = read_trace(Path(given.trace))
    host = open_host(process_environment())
    described = describe(host, parse_command_line(given.words).words)
    folder = described.source.locate(described.model, described.cache_dir)
    if folder is None:
        raise ModelError(f"{described.model.path} is not fetched yet", hint="start it once with pipeline=precompile")
    resolved, backend = read_and_resolve(host, described, folder)
    run = resolved.run
    cost, limits = measured_cost(run.config, run.model, run.cache_dir), backend.limits(run.config)
    longest, step_tokens = run.config.model.max_model_len or 0, run.step_tokens
    multiple = limits.token_multiple
    choices = {
        f"{budget} fixed": choose_fixed(longest, workload, cost, step_tokens, budget=budget, multiple=multiple)
        for budget in sorted({*BUDGETS, run.config.warmup.budget})
    }
    chosen = f"{run.config.warmup.budget} fixed"
    if limits.ranges:
        choices["a range"] = choose_range(longest, workload, cost, step_tokens)
        chosen = chosen if given.fixed else "a range"
    _print(choices, chosen, "not measured yet: only proportions hold" if cost == UNMEASURED else "measured here")
    file = Path(given.into) / "warmup" / f"{given.name}.yaml"
    shapes = ", ".join(map(str, choices[chosen].shapes))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Chosen for {Path(given.trace).name}, {chosen}.\nshapes: [{shapes}]\n")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", hint="name another folder with --into"
        ) from None
    sys.stdout.write(f"wrote {file}; use it with --config-dir {Path(given.into)} warmup={given.name}\n")


def _print(choices: dict[str, Choice], chosen: str, costs: str) -> None:
    table = Table("Programs", "padding", "ms a text", Column("shapes", overflow="fold"), box=None, pad_edge=False)
    for name, choice in choices.items():
        mark = " *" if name == chosen else ""
        shapes = " ".join(map(str, choice.shapes))
        table.add_row(name + mark, f"{choice.padding:.1%}", f"{choice.text_ms:.2f}", shapes)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table, markup=False)
    console.print(f"* chosen; step costs {costs}", markup=False)
