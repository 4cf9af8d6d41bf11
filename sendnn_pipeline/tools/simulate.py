"""``simulate FILE``: what the generation scheduler does with requests, step by step, and how long they take."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_command_line
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.generation.plan import GenerationPlan
from sendnn_pipeline.generation.plugin import NAME
from sendnn_pipeline.generation.rules import Rules
from sendnn_pipeline.generation.simulation.costs import FixedCosts, StepCost
from sendnn_pipeline.generation.simulation.play import play
from sendnn_pipeline.generation.simulation.predict import begins_of, predict
from sendnn_pipeline.generation.simulation.program_costs import ProgramCosts, program_costs
from sendnn_pipeline.generation.simulation.scenario import Entry, read_scenarios
from sendnn_pipeline.generation.simulation.timeline import Timeline, draw_png, write_html
from sendnn_pipeline.paths import expand_path
from sendnn_pipeline.programs.times import StepTimes
from sendnn_pipeline.tools import ToolParser

# What the tool fills in; whatever the file has of it is left out.
FILLED = ("events", "prediction", "steps")


def main(argv: Sequence[str]) -> None:
    """Play the scenarios of a file under sendnn's rules, or a run's, and print the same list with steps and events.

    Raises:
        ConfigError: a scenario is wrong, a file cannot be read or written, or nothing was measured of the run.
        ModelError: the run's model was not fetched yet.
    """
    parser = ToolParser("simulate", __doc__)
    parser.add_argument("file", metavar="FILE", help="JSON: a list of scenarios")
    parser.add_argument("--prefill-ms", type=_milliseconds, metavar="MS", help="what a prefill step takes")
    parser.add_argument("--decode-ms", type=_milliseconds, metavar="MS", help="what a decode step takes")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="draw the timelines into a page")
    parser.add_argument("--png", type=Path, metavar="PICTURE", help="draw the timelines into a picture")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of your own")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="a run, such as model= and backend=: by its rules, and by the times that this machine measured of it",
    )
    arguments = parser.parse_intermixed_args(list(argv))
    costs: StepCost | None = _costs(arguments.prefill_ms, arguments.decode_ms)
    file = expand_path(arguments.file, "FILE")
    entries, rules = read_scenarios(file), None
    if arguments.overrides:
        flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
        rules, measured = _of_run([*flags, *arguments.overrides])
        costs = costs or measured
        _check(entries, rules, file)
    timelines = [_timeline(entry, costs, rules) for entry in entries]
    if (arguments.html or arguments.png) and not timelines:
        raise ConfigError(f"{file} has no scenario to draw")
    if arguments.html:
        _draw(write_html, arguments.html, timelines)
    if arguments.png:
        _draw(draw_png, arguments.png, timelines)
    for timeline in timelines:
        _summarise(timeline)
    sys.stdout.write("[" + ",".join(map(_text, entries, timelines)) + "]\n")


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time of 0 or more")
    return value


def _costs(prefill_ms: float | None, decode_ms: float | None) -> FixedCosts | None:
    if prefill_ms is None and decode_ms is None:
        return None
    if prefill_ms is None or decode_ms is None:
        raise ConfigError("--prefill-ms and --decode-ms only predict times together", hint="set both")
    return FixedCosts(prefill_ms, decode_ms)


def _of_run(words: Sequence[str]) -> tuple[Rules, ProgramCosts]:
    """Return the rules of a run, and what its steps took when it was last started here."""
    context, command = load_command_line(words)
    composed = compose_run(context, command.overrides)
    folder = composed.locate()
    if folder is None:
        path = composed.draft["model.path"]
        raise ModelError(f"{path} is not fetched yet", hint="start it once with pipeline=precompile")
    run = resolve_run(context, composed, folder).run
    if not isinstance(run.plan, GenerationPlan):
        raise ConfigError(
            f"simulate plays engine={NAME}, and this run's is {run.config.engine.name}",
            hint="choose a model that generates text",
        )
    costs = program_costs(run.plan, StepTimes(run.timing_folders).read(run.timing_prefix))
    if costs is None:
        raise ConfigError(
            f"the steps of {run.served_name} were not measured here yet, with these options",
            hint="start it once with pipeline=precompile",
        )
    return run.plan.rules, costs


def _check(entries: Sequence[Entry], rules: Rules, file: Path) -> None:
    for entry in entries:
        for request in entry.scenario.requests:
            never = rules.why_never(len(request.prompt), request.max_tokens)
            if never:
                raise ConfigError(f"{file}: scenario {entry.scenario.name}: request {request.id}: {never}")


def _timeline(entry: Entry, costs: StepCost | None, rules: Rules | None) -> Timeline:
    """Play a scenario, and price it as the command line asks, or else the file."""
    played = play(entry.scenario, rules)
    own = entry.scenario.costs
    if costs is None and own is not None:
        costs = FixedCosts(own.prefill_ms, own.decode_ms)
    if costs is None:
        return Timeline(played)
    return Timeline(played, begins_of(played, costs), predict(played, costs))


def _draw(draw: Callable[[Path, Sequence[Timeline]], None], file: Path, timelines: Sequence[Timeline]) -> None:
    try:
        draw(file, timelines)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}", hint="name another file") from None


def _summarise(timeline: Timeline) -> None:
    """Write a line for people, where they do not read what programs do."""
    prediction = timeline.prediction
    if prediction is None:
        return
    first, between = (
        ", ".join(f"{name} {ms:,.1f}" for name, ms in values.items()) or "none"
        for values in (prediction.ttft_ms, prediction.itl_ms)
    )
    sys.stderr.write(
        f"{timeline.played.scenario.name}: {prediction.output_tokens} tokens in {prediction.total_ms:,.1f} ms, "
        f"{prediction.tokens_per_second:,.1f} tokens/s; TTFT ms: {first}; ITL ms: {between}\n"
    )


def _text(entry: Entry, timeline: Timeline) -> str:
    """Return the scenario as JSON with what was found: a line for every request and for every step."""
    played = timeline.played
    filled: dict[str, Any] = {key: value for key, value in entry.raw.items() if key not in FILLED}
    filled["events"] = msgspec.to_builtins(played.events)
    if timeline.prediction is not None:
        filled["prediction"] = msgspec.to_builtins(timeline.prediction)
    filled["steps"] = msgspec.to_builtins(played.rows)
    parts = []
    for key, value in filled.items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n   " + ",\n   ".join(map(json.dumps, value)) + "]"
        parts.append(f"{json.dumps(key)}: {text}")
    return "\n {" + ",\n  ".join(parts) + "}"
