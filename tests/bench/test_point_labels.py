"""Texts beside points: readable, whatever the points."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from sendnn_pipeline.bench.point_labels import label_points


@pytest.mark.parametrize("seed", range(3))
def test_texts_cover_neither_each_other_nor_points_and_stay_in_the_frame(seed):
    points = np.random.default_rng(seed).uniform(0, 10, (12, 2))
    # Two that are one.
    points[1] = points[0]
    figure = Figure(figsize=(5, 6))
    canvas, axis = FigureCanvasAgg(figure), figure.subplots()
    axis.scatter(*points.T)
    axis.margins(0.2)
    figure.draw_without_rendering()
    texts = [f"balanced, {number}" for number in range(12)]
    label_points(axis, canvas.get_renderer(), points, texts, ["C0"] * 12)
    notes = [child for child in axis.get_children() if isinstance(child, Annotation)]
    assert [note.get_text() for note in notes] == texts
    boxes = [Text.get_window_extent(note, canvas.get_renderer()) for note in notes]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    drawn = axis.transData.transform(points)
    assert not [box for box in boxes if box.count_contains(drawn)]
    assert all(box.x0 >= axis.bbox.x0 and box.x1 <= axis.bbox.x1 for box in boxes)
