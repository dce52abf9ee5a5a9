"""Labels beside points, placed so that they hide neither points nor each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, NamedTuple, Sequence

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCES = (9, 20, 34, 50, 68)  # points of type between a point and its label
DIRECTIONS = [np.array([np.cos(angle), np.sin(angle)]) for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
LEADER = 15  # from there on a line leads to the label
CLEAR = 8  # by how much a label should be nearer to its own point than to any other
MARKER, SPOT = 6, 2  # half the side of what a point covers, and an obstacle


class Label(NamedTuple):
    """A word beside a point of the axes' data."""

    text: str
    point: tuple[float, float]
    colour: str
    size: float = 10.5
    bold: bool = False


def place_labels(axis: Axes, labels: Sequence[Label], obstacles: Sequence[tuple[float, float]] = ()) -> None:
    """Write each label where it covers least; the axes' place and limits must be final.  `obstacles`: further points to keep free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    figure = axis.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    scale = figure.dpi / 72  # pixels of a point of type
    points = axis.transData.transform([*(label.point for label in labels), *obstacles]) / scale
    frame = axis.get_window_extent(renderer).extents / scale
    sides = np.array([MARKER] * len(labels) + [SPOT] * len(obstacles))[:, None]
    taken = _boxes(points, sides)
    for label, point in zip(labels, points):
        style = {"color": label.colour, "fontsize": label.size, "fontweight": "bold" if label.bold else "normal"}
        text = axis.annotate(label.text, label.point, (0, 0), textcoords="offset points", ha="center", va="center", **style)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # readable across a bar
        extent = text.get_window_extent(renderer)
        half = np.array([extent.width, extent.height]) / scale / 2 + 1
        others = points[: len(labels)][(points[: len(labels)] != point).any(1)]
        shift = _best_shift(point, half, others, taken, frame)
        text.set_position(tuple(shift))
        taken = np.vstack([taken, _boxes(point + shift, half)])
        if _gaps(shift, half) > LEADER:
            edge = shift - np.clip(shift, -half, half)
            axis.annotate("", label.point, tuple(edge), textcoords="offset points",
                          arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5})  # fmt: skip


def along(lines: Iterable[Sequence[tuple[float, float]]], count: int = 15) -> list[tuple[float, float]]:
    """Points of straight lines on axes that are logarithms, for labels to keep free: so many of each line, from one end to the other."""
    ends = [np.log(line) for line in lines]
    return [tuple(np.exp(start + share * (end - start)).tolist()) for start, end in ends for share in np.linspace(0, 1, count)]


def _best_shift(point: np.ndarray, half: np.ndarray, others: np.ndarray, taken: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """From the point to the middle of its label: near to it, clearly nearer than to the others, and covering little."""
    shifts = np.array([distance * way + np.sign(np.round(way, 6)) * half for distance in DISTANCES for way in DIRECTIONS])
    boxes, gaps = _boxes(point + shifts, half), _gaps(shifts, half)
    doubt = np.maximum(0, gaps[:, None] + CLEAR - _gaps(point + shifts[:, None] - others, half)).sum(1)
    outside = 4 * half.prod() - _overlaps(boxes, frame)
    return shifts[np.argmin(gaps + 3 * doubt + 10 * (_overlaps(boxes[:, None], taken).sum(1) + outside))]


def _gaps(shifts: np.ndarray, half: np.ndarray) -> np.ndarray:
    """How far a label's edge is from a point, when its middle is so far."""
    return np.linalg.norm(np.maximum(abs(shifts) - half, 0), axis=-1)


def _boxes(middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Left, bottom, right, top."""
    return np.concatenate([middles - halves, middles + halves], axis=-1)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas that they share."""
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    return np.maximum(sides, 0).prod(-1)
