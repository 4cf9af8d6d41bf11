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
COSTS = ("cold_compile_seconds", "padding_share", "p99_ms")
RATES = ("texts_per_second", "tokens_per_second", "tokens_per_second_min", "tokens_per_second_max")
FACTS = ("model", "backend", "dtype")


def figures_of(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what one job ran and measured, with units in the names; figures are None where it measured nothing."""
    row: dict[str, Any] = {name: result[name] for name in FACTS} if result else {}
    row |= dict.fromkeys((*RATES, *COSTS, "p50_ms", "ready_seconds", "cut_share")) | {"pareto": False}
    figures = (result or {}).get("figures", {})
    if result is None or "texts_per_second" not in figures:
        return row
    rate = figures["tokens_per_second"]
    return row | {
        "texts_per_second": figures["texts_per_second"]["median"],
        "tokens_per_second": rate["median"],
        "tokens_per_second_min": rate["min"],
        "tokens_per_second_max": rate["max"],
        "padding_share": figures["padding"],
        "cut_share": figures["cut"],
        "p50_ms": figures["latency_ms"]["p50"],
        "p99_ms": figures["latency_ms"]["p99"],
        "cold_compile_seconds": result["cold_compile_seconds"],
        "ready_seconds": sum(result["startup_seconds"].values()),
    }


def mark_pareto(rows: Sequence[dict[str, Any]]) -> None:
    """Mark each measured row that no other one beats or equals in everything and beats in something.

    A row whose texts were cut more than another's did less work, and is on no front.
    """
    measured = [row for row in rows if row["tokens_per_second"] is not None]
    whole = min((row["cut_share"] or 0.0 for row in measured), default=0.0)
    measured = [row for row in measured if (row["cut_share"] or 0.0) <= whole]

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        mine = [-one["tokens_per_second"], *(one[cost] or 0.0 for cost in COSTS)]
        theirs = [-other["tokens_per_second"], *(other[cost] or 0.0 for cost in COSTS)]
        return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs

    for row in measured:
        row["pareto"] = not any(beats(other, row) for other in measured)


def swept_of(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return what tells each job from the others: the words that not all have, as keys and values."""
    common = set(jobs[0]).intersection(*jobs[1:]) if jobs else set()
    return [dict(_pair(word) for word in words if word not in common) for words in jobs]


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, value


def label_of(swept: Mapping[str, str], words: Sequence[str]) -> str:
    """Return what a job is called: what was swept, or its words where that is nothing."""
    return " ".join(f"{key}={value}" for key, value in swept.items()) or " ".join(words) or "defaults"


def facts_of(result: Mapping[str, Any]) -> list[str]:
    """Return what a job ran, where and when, for the title of a plot."""
    workload = result["workload"]
    load = f"{workload['concurrency']} clients" if workload["rate"] is None else f"{workload['rate']:g} requests/s"
    return [
        *(result[name] for name in FACTS),
        f"workload={workload['name']}: {workload['num_requests']} requests",
        f"{workload['texts_per_request']} texts each",
        load,
        f"over {result['transport']}",
        result["machine"],
        result["date"],
    ]


def title_of(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the facts that all results share."""
    facts = [facts_of(result) for result in results]
    return ", ".join(fact for fact in (facts[0] if facts else []) if all(fact in other for other in facts))


def compare(console: Console, rows: list[dict[str, Any]], title: str, folder: Path) -> None:
    """Print the table, and write it with its plot into ``folder``.

    Args:
        console: where the user reads.
        rows: of ``figures_of``, each with ``label``, ``point``, what its point in the plot is called, and ``status``:
            ``done``, or why it failed.
        title: of the plot.
        folder: takes sweep.csv, sweep.json and, where something was measured, sweep.png.
    """
    mark_pareto(rows)
    measured = [row for row in rows if row["texts_per_second"] is not None]
    if measured:
        console.print(_table(measured))
        plot_sweep(folder / "sweep.png", title, measured)
    for row in rows:
        if row not in measured:
            console.print(f"{row['label']}: {row['status']}", markup=False)
    written = [{name: value for name, value in row.items() if name != "point"} for row in rows]
    (folder / "sweep.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    with (folder / "sweep.csv").open("w", encoding="utf-8", newline="") as stream:
        # A job that failed has no facts: the columns are those of all rows.
        writer = csv.DictWriter(stream, fieldnames=list(dict.fromkeys(name for row in written for name in row)))
        writer.writeheader()
        writer.writerows(written)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    titles = ("texts/s", "tokens/s", "spread", "cold compile s", "padding", "p50 ms", "p99 ms", "cut")
    table = Table(Column("job", overflow="fold"), *titles, "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["label"].replace("[", r"\["),
            f"{row['texts_per_second']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['tokens_per_second_min']:,.0f} to {row['tokens_per_second_max']:,.0f}",
            "" if row["cold_compile_seconds"] is None else f"{row['cold_compile_seconds']:.1f}",
            f"{row['padding_share']:.1%}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            f"{row['cut_share']:.1%}" if row["cut_share"] else "",
            "*" if row["pareto"] else "",
        )
    return table
