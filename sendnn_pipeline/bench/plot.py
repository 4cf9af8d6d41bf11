"""What people would rather look at than read, as PNG. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.bench.load import Sample
from sendnn_pipeline.bench.point_labels import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Formatter

MARKERS = "osD^vPX<>hp"
AXES = (
    ("cold_compile_seconds", "cold compile, s", "{x:,g}"),
    ("padding_share", "padding", "{x:.0%}"),
    ("p99_ms", "p99 latency, ms", "{x:,g}"),
)


def plot_bench(file: Path, title: str, figures: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Draw the latencies of all requests as a distribution, and what the Programs computed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    _draw_latencies(left, figures["latency_ms"], samples)
    _draw_programs(right, figures["programs"])
    figure.savefig(file, dpi=120)


def _draw_latencies(axis: "Axes", percentiles: Mapping[str, float], samples: Sequence[Sample]) -> None:
    latencies = sorted(sample.latency_seconds * 1000 for sample in samples if not sample.error)
    shares = [(index + 1) / len(latencies) for index in range(len(latencies))]
    axis.step(latencies, shares, where="post")
    for name, side in (("p50", "right"), ("p99", "left")):
        value = percentiles[name]
        axis.axvline(value, color="gray", linestyle=":", linewidth=1)
        # On top, p50 to the left of its line and p99 to the right: they never meet.
        axis.annotate(
            f" {name} {value:,.0f} ms ", (value, 1.01), xycoords=("data", "axes fraction"), ha=side, fontsize=8
        )
    axis.set(xlabel="latency, ms", ylabel="share of requests", xlim=(0, None), ylim=(0, 1))
    _space_ticks(axis, "{x:,g}")


def _draw_programs(axis: "Axes", programs: Mapping[str, Mapping[str, float]]) -> None:
    from matplotlib.ticker import EngFormatter

    names = list(programs)
    real = [programs[name]["real_tokens"] for name in names]
    padding = [programs[name]["tokens"] - programs[name]["real_tokens"] for name in names]
    # Else a single bar would be as thick as the plot is high.
    height = min(0.8, 0.25 * len(names))
    axis.barh(names, real, height, label="real tokens")
    axis.barh(names, padding, height, left=real, label="padding", color="lightgray")
    axis.set(xlabel="tokens computed", ylim=(-0.7, len(names) - 0.3))
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=8)
    _space_ticks(axis, EngFormatter(sep=""))
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)


def _space_ticks(axis: "Axes", form: "str | Formatter") -> None:
    """Number the x axis so sparsely that no two numbers meet."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(form)


def plot_sweep(file: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw throughput against startup cost, padding and tail latency.

    A marker for each backend, a colour for each combination of what else was swept, whose values stand beside the
    points; the Pareto front is circled.

    Args:
        file: the PNG.
        title: what all jobs share.
        rows: jobs that succeeded, with the columns of ``comparison.figures_of`` and ``point``, the text of its points.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    backends = sorted({row["backend"] for row in rows})
    names = list(dict.fromkeys(row["point"] for row in rows))
    markers = dict(zip(backends, MARKERS * len(backends), strict=False))
    colors = {name: colormaps["tab10"](index % 10) for index, name in enumerate(names)}
    figure = Figure(figsize=(15, 6), dpi=120, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, len(AXES))
    for axis, (key, label, form) in zip(panels, AXES, strict=True):
        drawn = [row for row in rows if row[key] is not None]
        for row in drawn:
            color, middle = colors[row["point"]], row["tokens_per_second"]
            spread = [[middle - row["tokens_per_second_min"]], [row["tokens_per_second_max"] - middle]]
            axis.errorbar(row[key], middle, yerr=spread, color=color, fmt="none", alpha=0.4)
            axis.scatter(row[key], middle, color=color, marker=markers[row["backend"]], s=36)
            if row["pareto"]:
                axis.scatter(row[key], middle, facecolors="none", edgecolors="black", s=150, linewidths=1)
        axis.set(xlabel=label, ylabel="real tokens a second" if axis is panels[0] else "")
        axis.margins(0.2)
        # From zero: a small difference must not look like a large one.
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        _space_ticks(axis, form)
        axis.yaxis.set_major_formatter("{x:,.0f}")
    handles = [Line2D([], [], linestyle="", marker=markers[name], color="gray", label=name) for name in backends]
    best = "no other job is better in startup cost, throughput, padding and tail latency"
    handles.append(Line2D([], [], linestyle="", marker="o", ms=12, mfc="none", mec="black", label=best))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    # The panels stand where they will: only now is it known what meets what.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis, (key, _, _) in zip(panels, AXES, strict=True):
        drawn = [row for row in rows if row[key] is not None]
        label_points(
            axis,
            canvas.get_renderer(),
            [(row[key], row["tokens_per_second"]) for row in drawn],
            [row["point"] for row in drawn],
            [colors[row["point"]] for row in drawn],
        )
    figure.savefig(file)
