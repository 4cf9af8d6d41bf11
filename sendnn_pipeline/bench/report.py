"""From samples and steps to figures: what a bench says, as data and as tables. No torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sendnn_pipeline.bench.load import Sample
from sendnn_pipeline.config.serving import GoodputConfig
from sendnn_pipeline.messages import StepDone

PERCENTILES = (50, 90, 99)


def summarise(rounds: Sequence[tuple[Sequence[Sample], Sequence[StepDone]]], goodput: GoodputConfig) -> dict[str, Any]:
    """Return the figures of all rounds: rates as median with minimum and maximum, the rest over everything."""
    samples = [sample for found, _ in rounds for sample in found]
    steps = [step for _, found in rounds for step in found]
    good = [sample for sample in samples if not sample.error]
    figures: dict[str, Any] = {
        "num_requests": len(samples),
        "num_failed": len(samples) - len(good),
        "errors": sorted({sample.error for sample in samples if sample.error})[:5],
    }
    if not good:
        return figures
    figures["cut"] = sum(sample.num_cut for sample in samples) / sum(sample.num_items for sample in samples)

    def rate(count: Callable[[Sample], int]) -> dict[str, float]:
        return _spread([_rate(found, count) for found, _ in rounds])

    figures["requests_per_second"] = rate(lambda _: 1)
    figures["texts_per_second"] = rate(lambda sample: sample.num_items)
    figures["tokens_per_second"] = rate(lambda sample: sample.num_tokens)
    if any(sample.num_output_tokens for sample in good):
        figures["output_tokens_per_second"] = rate(lambda sample: sample.num_output_tokens)
    if goodput != GoodputConfig():
        figures["good_requests_per_second"] = rate(lambda sample: int(meets(sample, goodput)))
    figures["latency_ms"] = _percentiles([sample.latency_seconds for sample in good])
    streams = [times for sample in good for times in sample.streams]
    if streams:
        figures["ttft_ms"] = _percentiles([first for sample in good for first in sample.first_seconds])
        gaps = [gap for times in streams for gap in np.diff(times)]
        each = [seconds for sample in good for seconds in sample.token_seconds]
        figures |= {name: _percentiles(found) for name, found in (("itl_ms", gaps), ("tpot_ms", each)) if found}
    for name in ("queued_seconds", "compute_seconds"):
        known = [value for sample in good if (value := getattr(sample, name)) is not None]
        if known:
            figures[name.replace("_seconds", "_ms")] = _percentiles(known)
    figures |= _of_steps(steps)
    return figures


def meets(sample: Sample, goodput: GoodputConfig) -> bool:
    """Return whether a request that was answered took no longer than asked for, with each of its texts."""
    measured = (
        (goodput.ttft_ms, sample.first_seconds),
        (goodput.tpot_ms, sample.token_seconds),
        (goodput.latency_ms, [sample.latency_seconds]),
    )
    return all(limit is None or max(found, default=0.0) * 1000 <= limit for limit, found in measured)


def _rate(samples: Sequence[Sample], count: Callable[[Sample], int]) -> float:
    good = [sample for sample in samples if not sample.error]
    if not good:
        return 0.0
    seconds = max(sample.answers[-1] for sample in good) - min(sample.due for sample in good)
    return sum(map(count, good)) / seconds


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(seconds, q) * 1000) for q in PERCENTILES}


def _of_steps(steps: Sequence[StepDone]) -> dict[str, Any]:
    real, computed = sum(step.real_tokens for step in steps), sum(step.computed_tokens for step in steps)
    programs: dict[str, dict[str, float]] = {}
    for step in steps:
        sums = programs.setdefault(step.program, {"steps": 0, "texts": 0, "real_tokens": 0, "tokens": 0, "busy_ms": 0})
        sums["steps"] += 1
        sums["texts"] += step.num_items
        sums["real_tokens"] += step.real_tokens
        sums["tokens"] += step.computed_tokens
        sums["busy_ms"] += (step.finished - step.started) * 1000
    rows = sum(step.max_items for step in steps)
    return {
        "padding": 1 - real / computed if computed else 0.0,
        "fill": sum(step.num_items for step in steps) / rows if rows else 0.0,
        "programs": programs,
    }


def print_figures(console: Console, figures: Mapping[str, Any], startup: Mapping[str, float]) -> None:
    """Print what was measured."""
    table = Table("", "median", "min", "max", box=None, pad_edge=False)
    for name, spread in figures.items():
        if name.endswith("_per_second"):
            table.add_row(name.replace("_", " "), *(f"{spread[key]:,.1f}" for key in ("median", "min", "max")))
    console.print(table)
    timed = [name for name in figures if name.endswith("_ms")]
    if timed:
        table = Table("ms", *(f"p{q}" for q in PERCENTILES), box=None, pad_edge=False)
        for name in timed:
            table.add_row(name.removesuffix("_ms"), *(f"{figures[name][f'p{q}']:.1f}" for q in PERCENTILES))
        console.print(table)
    if figures.get("programs"):
        table = Table("Program", "steps", "texts", "padding", "busy ms", box=None, pad_edge=False)
        for name, sums in figures["programs"].items():
            padding = f"{1 - sums['real_tokens'] / sums['tokens']:.1%}"
            row = (f"{sums['steps']:.0f}", f"{sums['texts']:.0f}", padding, f"{sums['busy_ms']:.0f}")
            table.add_row(name.replace("[", r"\["), *row)
        console.print(table)
        console.print(f"padding {figures['padding']:.1%} of computed tokens, rows filled {figures['fill']:.1%}")
    if figures.get("cut"):
        console.print(f"cut: {figures['cut']:.1%} of the texts are shorter than the workload has them")
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in startup.items())
    console.print(f"start: {phases}")
    if figures["num_failed"]:
        console.print(
            f"{figures['num_failed']} of {figures['num_requests']} requests failed: {figures['errors']}", markup=False
        )
