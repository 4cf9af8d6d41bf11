"""Texts beside the points of a plot, where they cover neither points nor each other as far as there is room."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# Where a text may stand, nearest first: how far off, its anchor in points of type, and how it is aligned to that.
PLACES = tuple(
    (distance, x * distance, y * distance, ha, va)
    for distance in (1, 2, 3, 4.5, 6)
    for x, y, ha, va in (
        (9, 0, "left", "center"),
        (-9, 0, "right", "center"),
        (0, 9, "center", "bottom"),
        (0, -9, "center", "top"),
        (7, 6, "left", "bottom"),
        (7, -6, "left", "top"),
        (-7, 6, "right", "bottom"),
        (-7, -6, "right", "top"),
    )
)
RADIUS = 5.0


def label_points(
    axis: "Axes", renderer: Any, points: Sequence[tuple[float, float]], texts: Sequence[str], colors: Sequence[Any]
) -> None:
    """Write a text beside each point, with a thin line to those that stand off.

    Args:
        axis: whose figure is laid out already.
        renderer: of the figure.
        points: in data coordinates.
        texts: of each.
        colors: of each text.
    """
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    places = [axis.transData.transform(point) for point in points]
    taken = [Bbox.from_extents(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    for point, text, color in zip(points, texts, colors, strict=True):
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkB": 3}
        best: tuple[float, Any, Bbox] | None = None
        for distance, x, y, ha, va in PLACES:
            note = axis.annotate(
                text,
                point,
                (x, y),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=7,
                color=color,
                arrowprops=line if distance > 1 else None,
            )
            note.set_in_layout(False)
            note.update_positions(renderer)
            # Without its line.
            box = Text.get_window_extent(note, renderer)
            cost = sum(_overlap(box, other) for other in taken) + _outside(box, axis.bbox)
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = cost, note, box
            else:
                note.remove()
            if cost == 0:
                break
        assert best is not None
        taken.append(best[2])


def _overlap(one: "Bbox", other: "Bbox") -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def _outside(box: "Bbox", frame: "Bbox") -> float:
    return float(box.width * box.height - _overlap(box, frame))
