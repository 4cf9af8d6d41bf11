"""``tune TRACE``: the cheapest shapes for a workload, written as an option of ``warmup``."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Column, Table

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_command_line
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.engines.lengths import describe_left_out, read_trace
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.pooling.auto_shapes import ShapeChoice, choose_fixed, choose_range
from sendnn_pipeline.pooling.choose import cost_of_steps
from sendnn_pipeline.pooling.config import pooling_config
from sendnn_pipeline.pooling.plan import pooling_plan
from sendnn_pipeline.pooling.shapes import shape_of
from sendnn_pipeline.pooling.step_cost import UNMEASURED
from sendnn_pipeline.programs.times import StepTimes
from sendnn_pipeline.tools import ToolParser

POOLING = "pooling"
BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16)


def main(argv: Sequence[str]) -> None:
    """Print what each choice is expected to cost, and write the best that the backend can compile.

    Raises:
        ConfigError: the trace cannot be used, or the file cannot be written.
        ModelError: the model was not fetched yet.
    """
    parser = ToolParser("tune", __doc__)
    parser.add_argument("trace", help="a number of tokens a line, or JSON lines such as the perf log's")
    parser.add_argument("--name", default="tuned", help="of the option that is written")
    parser.add_argument("--into", default=".", help="folder that takes warmup/NAME.yaml; give it to --config-dir")
    parser.add_argument("--fixed", action="store_true", help="choose fixed shapes, also where ranges can be compiled")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of your own")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="the run, such as model= and backend="
    )
    arguments = parser.parse_intermixed_args(list(argv))
    if not re.fullmatch(r"[A-Za-z_]\w*", arguments.name):
        raise ConfigError(f"--name {arguments.name} is not a name of an option")
    workload = read_trace(expand_path(arguments.trace, "TRACE"))
    left_out = describe_left_out(workload, arguments.trace)
    if left_out:
        sys.stdout.write(f"note: {left_out}\n")
    flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    context, command = load_command_line([*flags, *arguments.overrides])
    composed = compose_run(context, command.overrides)
    folder = composed.locate()
    if folder is None:
        path = composed.draft["model.path"]
        raise ModelError(f"{path} is not fetched yet", hint="start it once with pipeline=precompile")
    resolved = resolve_run(context, composed, folder)
    run, limits = resolved.run, resolved.backend.limits
    if run.config.engine.name != POOLING:
        raise ConfigError(
            f"tune chooses shapes for engine={POOLING}, and this run's is {run.config.engine.name}",
            hint=f"choose a model that it runs, or engine={POOLING}",
        )
    _, warmup = pooling_config(run.config)
    cost = cost_of_steps(StepTimes(run.timing_folders).read(run.timing_prefix))
    max_length, step_tokens = run.config.model.max_model_len or 0, pooling_plan(run).step_tokens
    multiple = limits.token_multiple
    choices = {
        f"{budget} fixed": choose_fixed(max_length, workload, cost, step_tokens, budget=budget, multiple=multiple)
        for budget in sorted({*BUDGETS, warmup.budget})
    }
    chosen = f"{warmup.budget} fixed"
    if limits.ranges:
        choices["a range"] = choose_range(max_length, workload, cost, step_tokens)
        chosen = chosen if arguments.fixed else "a range"
    _print(choices, chosen, "not measured yet: only proportions hold" if cost == UNMEASURED else "measured here")
    file = Path(arguments.into) / "warmup" / f"{arguments.name}.yaml"
    shapes = ", ".join(map(shape_of, choices[chosen].programs))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Chosen for {Path(arguments.trace).name}, {chosen}.\nshapes: [{shapes}]\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", hint="name another folder with --into"
        ) from None
    sys.stdout.write(f"wrote {file}; use it with --config-dir {Path(arguments.into)} warmup={arguments.name}\n")


def _print(choices: dict[str, ShapeChoice], chosen: str, costs: str) -> None:
    table = Table("Programs", "padding", "ms a text", Column("shapes", overflow="fold"), box=None, pad_edge=False)
    for name, choice in choices.items():
        mark = " *" if name == chosen else ""
        shapes = " ".join(map(shape_of, choice.programs))
        table.add_row(name + mark, f"{choice.padding:.1%}", f"{choice.text_ms:.2f}", shapes)
    console = open_console()
    console.print(table, markup=False)
    console.print(f"* chosen; step costs {costs}", markup=False)
