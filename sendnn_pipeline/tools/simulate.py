"""``simulate FILE``: what the generation scheduler does with requests, step by step, and how long they take."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.simulation.costs import FixedCosts
from sendnn_pipeline.generation.simulation.play import play
from sendnn_pipeline.generation.simulation.predict import begins_of, predict
from sendnn_pipeline.generation.simulation.scenario import Entry, read_scenarios
from sendnn_pipeline.generation.simulation.timeline import Timeline, draw_png, write_html

# What the tool fills in; whatever the file has of it is left out.
FILLED = ("events", "prediction", "steps")


def main(argv: Sequence[str]) -> None:
    """Play the scenarios of a file under sendnn's rules, and print the same list with steps and events.

    Raises:
        ConfigError: a scenario is wrong, or a file cannot be read or written.
    """
    parser = argparse.ArgumentParser(prog="python -m sendnn_pipeline simulate", description=__doc__)
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON: a list of scenarios")
    parser.add_argument("--prefill-ms", type=_milliseconds, metavar="MS", help="what a prefill step takes")
    parser.add_argument("--decode-ms", type=_milliseconds, metavar="MS", help="what a decode step takes")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="draw the timelines into a page")
    parser.add_argument("--png", type=Path, metavar="PICTURE", help="draw the timelines into a picture")
    arguments = parser.parse_args(list(argv))
    costs = _costs(arguments.prefill_ms, arguments.decode_ms)
    entries = read_scenarios(arguments.file)
    timelines = [_timeline(entry, costs) for entry in entries]
    if (arguments.html or arguments.png) and not timelines:
        raise ConfigError(f"{arguments.file} has no scenario to draw")
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


def _timeline(entry: Entry, costs: FixedCosts | None) -> Timeline:
    """Play a scenario, and price it as the command line asks, or else the file."""
    played = play(entry.scenario)
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
