"""What people would rather look at than read, as PNG. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sendnn_pipeline.bench.load import Sample


def plot_bench(file: Path, title: str, figures: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Draw the latencies of all requests as a distribution, and where the Programs' time went."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    latencies = sorted(sample.latency_seconds * 1000 for sample in samples if not sample.error)
    shares = [(index + 1) / len(latencies) for index in range(len(latencies))]
    left.step(latencies, shares, where="post")
    for name in ("p50", "p99"):
        left.axvline(figures["latency_ms"][name], color="gray", linestyle=":", linewidth=1)
        left.annotate(name, (figures["latency_ms"][name], 0.02), fontsize=8, color="gray")
    left.set(xlabel="latency, ms", ylabel="share of requests", xlim=(0, None), ylim=(0, 1))
    names = list(figures["programs"])
    real = [figures["programs"][name]["real_tokens"] for name in names]
    padding = [figures["programs"][name]["tokens"] - figures["programs"][name]["real_tokens"] for name in names]
    right.barh(names, real, label="real tokens")
    right.barh(names, padding, left=real, label="padding", color="lightgray")
    right.set(xlabel="tokens computed")
    right.tick_params(axis="y", labelsize=8)
    right.legend(fontsize=8)
    figure.savefig(file, dpi=120)


def plot_sweep(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw throughput against startup cost, padding and tail latency; the Pareto front is marked.

    Args:
        file: the PNG.
        rows: jobs that succeeded, with the columns of ``comparison.figures_of``.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    axes_of = (
        ("cold_compile_seconds", "cold compile, s"),
        ("padding", "padding, share"),
        ("p99_ms", "p99 latency, ms"),
    )
    figure = Figure(figsize=(13, 5), layout="constrained")
    for index, (axis, (key, label)) in enumerate(zip(figure.subplots(1, 3), axes_of, strict=True)):
        for number, row in enumerate(rows):
            if row[key] is None:
                continue
            color = colormaps["tab20"](number % 20)
            low, high = row["min"], row["max"]
            middle = row["tokens_per_second"]
            axis.errorbar(row[key], middle, yerr=[[middle - low], [high - middle]], color=color, fmt="none", alpha=0.5)
            marker = "*" if row["pareto"] else "o"
            size = 130 if row["pareto"] else 30
            axis.scatter(row[key], middle, color=color, marker=marker, s=size, label=row["label"])
        axis.set(xlabel=label, ylabel="real tokens a second" if index == 0 else "")
        axis.margins(0.15)
        # From zero: a small difference must not look like a large one.
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle("a star: no other job is better in startup cost, throughput, padding and tail latency", fontsize=10)
    figure.savefig(file, dpi=120)
