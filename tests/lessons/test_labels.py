"""Labels beside points: where they hide nothing."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from difftuning.lessons.figures import Figure
from difftuning.lessons.labels import Label, along, place_labels


def test_labels_hide_neither_points_nor_each_other():
    figure = Figure(figsize=(8, 6))
    axis = figure.subplots()
    points = np.random.default_rng(1).uniform(0.1, 0.9, (12, 2))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axis, [Label(f"method {n}", tuple(point), "black") for n, point in enumerate(points)])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axis.texts if text.get_text()]
    assert len(boxes) == 12
    for n, box in enumerate(boxes):
        assert not box.count_contains(axis.transData.transform(points))
        assert not any(box.overlaps(other) for other in boxes[:n])
        assert all(axis.get_window_extent(renderer).contains(*corner) for corner in box.corners())


def test_points_along_a_line_are_where_it_is_drawn_on_logarithmic_axes():
    figure = Figure(figsize=(8, 6))
    axis = figure.subplots()
    axis.set(xscale="log", yscale="log", xlim=(1, 100), ylim=(1, 10_000))
    drawn = axis.transData.transform(along([((1, 10), (100, 1000))], count=5))
    start, end = axis.transData.transform([(1, 10), (100, 1000)])
    assert np.allclose(drawn, np.linspace(start, end, 5))
