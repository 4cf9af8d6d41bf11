"""The jobs of a sweep side by side: a table, CSV, JSON and a plot of the trade-off. No torch."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from sendnn_pipeline.bench.plot import plot_sweep

# Less is better in all but the throughput, which is in real tokens: shapes decide where texts are cut.
COSTS = ("cold_compile_seconds", "padding", "p99_ms")


def figures_of(label: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns of one job; None where it measured nothing."""
    row: dict[str, Any] = {"label": label, "texts_per_second": None, "min": None, "max": None, "pareto": False}
    row |= dict.fromkeys((*COSTS, "tokens_per_second", "p50_ms", "ready_seconds"))
    figures = (result or {}).get("figures", {})
    if result is None or "texts_per_second" not in figures:
        return row
    rate = figures["tokens_per_second"]
    return row | {
        "texts_per_second": figures["texts_per_second"]["median"],
        "tokens_per_second": rate["median"],
        "min": rate["min"],
        "max": rate["max"],
        "padding": figures["padding"],
        "p50_ms": figures["latency_ms"]["p50"],
        "p99_ms": figures["latency_ms"]["p99"],
        "cold_compile_seconds": result["cold_compile_seconds"],
        "ready_seconds": sum(result["startup_seconds"].values()),
    }


def mark_pareto(rows: Sequence[dict[str, Any]]) -> None:
    """Mark each measured row that no other one beats or equals in everything and beats in something."""
    measured = [row for row in rows if row["tokens_per_second"] is not None]

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        mine = [-one["tokens_per_second"], *(one[cost] or 0.0 for cost in COSTS)]
        theirs = [-other["tokens_per_second"], *(other[cost] or 0.0 for cost in COSTS)]
        return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs

    for row in measured:
        row["pareto"] = not any(beats(other, row) for other in measured)


def labels_of(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return what tells each job from the others: the words that not all have."""
    common = set(jobs[0]).intersection(*jobs[1:]) if jobs else set()
    return [" ".join(word for word in words if word not in common) or " ".join(words) or "defaults" for words in jobs]


def compare(console: Console, rows: list[dict[str, Any]], folder: Path) -> None:
    """Print the table, and write it with its plot into ``folder``.

    Args:
        console: where the user reads.
        rows: of ``figures_of``, each with ``status``: ``done``, or why it failed.
        folder: takes sweep.csv, sweep.json and, where something was measured, sweep.png.
    """
    mark_pareto(rows)
    titles = ("texts/s", "tokens/s", "spread", "cold compile s", "padding", "p50 ms", "p99 ms")
    table = Table(Column("job", overflow="fold"), *titles, "", box=None, pad_edge=False)
    measured = [row for row in rows if row["texts_per_second"] is not None]
    for row in measured:
        cold = "" if row["cold_compile_seconds"] is None else f"{row['cold_compile_seconds']:.1f}"
        table.add_row(
            row["label"].replace("[", r"\["),
            f"{row['texts_per_second']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['min']:,.0f} to {row['max']:,.0f}",
            cold,
            f"{row['padding']:.1%}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            "*" if row["pareto"] else "",
        )
    if measured:
        console.print(table)
    for row in rows:
        if row not in measured:
            console.print(f"{row['label']}: {row['status']}", markup=False)
    (folder / "sweep.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    with (folder / "sweep.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if measured:
        plot_sweep(folder / "sweep.png", measured)
