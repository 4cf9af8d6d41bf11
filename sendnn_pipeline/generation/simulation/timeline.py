"""A played scenario as a picture: what every request did, and how full the cache and the decode were."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from sendnn_pipeline.generation.simulation.play import Played
from sendnn_pipeline.generation.simulation.predict import Prediction
from sendnn_pipeline.generation.simulation.spans import Doing, spans_of
from sendnn_pipeline.generation.steps import DecodeStep

COLORS = {
    Doing.WAITING: "#d9d9d9",
    Doing.PREFILL: "#3b6fb6",
    Doing.DECODE: "#58a55c",
    Doing.INTERRUPTED: "#e8f2e8",
    Doing.PAUSED: "#e0913b",
}
# Above what is drawn, which may be full of bars.
LEGEND: dict[str, Any] = {"fontsize": 7, "loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
WIDTH_INCHES = 12.0
MAX_HEIGHT_INCHES = 40.0
DPI = 120
MAX_PIXELS = 60_000


@dataclass(frozen=True)
class Timeline:
    """What is drawn of a scenario."""

    played: Played
    begins: list[float] | None = None
    """The millisecond at which each step begins; None draws all steps equally long."""
    prediction: Prediction | None = None


def draw_png(file: Path, timelines: Sequence[Timeline]) -> None:
    """Draw one or more scenarios, below each other.

    Raises:
        OSError: the file cannot be written.
    """
    heights = [_height(timeline.played) for timeline in timelines]
    figure = _figure(sum(heights))
    parts = figure.subfigures(len(timelines), 1, height_ratios=heights, squeeze=False)
    for (part,), timeline in zip(parts, timelines, strict=True):
        _draw(part, timeline.played, timeline.begins)
    figure.savefig(file, format="png", dpi=min(DPI, MAX_PIXELS / sum(heights)))


def write_html(file: Path, timelines: Sequence[Timeline]) -> None:
    """Write a page that needs no other file: a picture of each scenario, and its times where they are known.

    Raises:
        OSError: the file cannot be written.
    """
    sections = []
    for timeline in timelines:
        figure = _figure(_height(timeline.played))
        _draw(figure, timeline.played, timeline.begins)
        picture = BytesIO()
        figure.savefig(picture, format="svg")
        data = base64.b64encode(picture.getvalue()).decode()
        name = escape(timeline.played.scenario.name)
        sections.append(f'<h2>{name}</h2>\n<img alt="{name}" src="data:image/svg+xml;base64,{data}">')
        if timeline.prediction is not None:
            sections.append(_table(timeline.prediction))
    style = "body{font-family:sans-serif}img{max-width:100%}td,th{padding:0 1em;text-align:right}"
    head = f'<meta charset="utf-8"><title>Scheduler timeline</title><style>{style}</style>'
    file.write_text(f"<!doctype html>\n{head}\n" + "\n".join(sections) + "\n", encoding="utf-8")


def _table(prediction: Prediction) -> str:
    rows = [
        (request.id, request.queued_ms, request.ttft_ms, request.itl_ms, request.max_itl_ms, request.e2e_ms)
        for request in prediction.requests
    ]
    names = ("request", "queued ms", "TTFT ms", "mean ITL ms", "max ITL ms", "end to end ms")
    lines = ["".join(f"<th>{name}</th>" for name in names)]
    lines += [
        f"<td>{escape(name)}</td>" + "".join(f"<td>{value:,.1f}</td>" for value in values) for name, *values in rows
    ]
    total = f"{prediction.output_tokens} tokens in {prediction.total_ms:,.1f} ms"
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<p>{total}, {prediction.tokens_per_second:,.1f} tokens a second</p>\n<table>\n{body}\n</table>"


def _height(played: Played) -> float:
    return min(MAX_HEIGHT_INCHES, 2.6 + 0.28 * len(played.scenario.requests))


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH_INCHES, height), layout="constrained")


def _draw(part: Any, played: Played, begins: list[float] | None) -> None:
    """Draw one scenario into a figure, or into a part of one."""
    at = begins if begins is not None else [float(row.step) for row in played.rows]
    part.suptitle(played.scenario.name, fontsize=10)
    top, bottom = part.subplots(2, 1, sharex=True, height_ratios=(0.6 + 0.28 * len(played.scenario.requests), 1.2))
    _draw_requests(top, played, at)
    _draw_totals(bottom, played, at)
    bottom.set_xlabel("ms" if begins is not None else "step")
    top.set_xlim(0, max(at[-1], 1e-9))


def _draw_requests(axis: Any, played: Played, at: Sequence[float]) -> None:
    bars: dict[tuple[int, Doing], list[tuple[float, float]]] = {}
    for span in spans_of(played):
        bars.setdefault((span.index, span.doing), []).append((at[span.begin], at[span.end] - at[span.begin]))
    shown: set[Doing] = set()
    for (index, doing), ranges in sorted(bars.items()):
        label = "" if doing in shown else str(doing)
        shown.add(doing)
        axis.broken_barh(
            ranges, (index - 0.4, 0.8), facecolors=COLORS[doing], edgecolor="white", linewidth=0.4, label=label
        )
    ids = [request.id for request in played.scenario.requests]
    axis.set_yticks(range(len(ids)), ids, fontsize=8)
    axis.invert_yaxis()
    if shown:
        axis.legend(ncols=5, **LEGEND)


def _draw_totals(axis: Any, played: Played, at: Sequence[float]) -> None:
    used = [row.used_blocks for row in played.rows]
    promised = [row.used_blocks + row.reserved_blocks for row in played.rows]
    axis.fill_between(at, promised, step="post", color="#e3d7ef", label="reserved")
    axis.fill_between(at, used, step="post", color="#8d6bb0", label="used")
    axis.set_ylabel("blocks before", fontsize=8)
    axis.set_ylim(bottom=0)
    other = axis.twinx()
    volumes = [len(step.request_ids) * step.tkv if isinstance(step, DecodeStep) else 0 for step in played.steps]
    other.step(at, [*volumes, 0], where="post", color="black", linewidth=0.8, label="rows x tkv")
    if played.rules.max_batch_tkv is not None:
        other.axhline(played.rules.max_batch_tkv, color="red", linestyle=":", linewidth=1, label="max_batch_tkv")
    other.set_ylabel("rows x tkv", fontsize=8)
    other.set_ylim(bottom=0)
    handles = [*axis.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    axis.legend(handles=handles, ncols=4, **LEGEND)
