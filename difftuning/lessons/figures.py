"""Figures of the lessons: values in, Figure out; one theme, colours that colour-blind readers tell apart.

Every figure carries a description for readers who cannot see it (`describe`).
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Literal, Mapping, Sequence

import matplotlib.figure
import numpy as np
from torch import Tensor

from ..studies.gains import Estimate, estimate

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Okabe and Ito's palette: one colour per method, the same in every lesson.
COLOURS = {
    "pre-trained": "#000000",
    "plain": "#D55E00",
    "Diff-Tuning": "#0072B2",
    "Diff-Tuning, weight 1": "#56B4E9",
    "reconsolidation only": "#009E73",
    "retention only": "#CC79A7",
}
TASK, SOURCE = "#332288", "#999933"  # sets of pictures: two of Paul Tol's muted colours


class Figure(matplotlib.figure.Figure):
    """A figure that shows itself in a notebook, whatever the backend.

    Its description goes along as the output's text, as the picture's `alt` where a viewer asks for it, and in the file.
    """

    def __repr__(self) -> str:
        return f"Figure: {self.get_label()}"

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=90, bbox_inches="tight", metadata={"Description": self.get_label()})
        return file.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        return {"image/png": self._repr_png_(), "text/plain": repr(self)}, {"image/png": {"alt": self.get_label()}}


@contextmanager
def theme() -> Iterator[None]:
    """seaborn's white grid with fonts that stay readable on a laptop."""
    import seaborn

    with seaborn.axes_style("whitegrid", {"grid.color": ".9"}), seaborn.plotting_context("notebook"):
        yield


def picture_rows(rows: Mapping[str, Tensor], *, title: str = "", columns: int = 12, heads: Sequence[str] = ()) -> Figure:
    """One labelled row of pictures for each entry; images (N, 3, H, W) in [-1, 1].  `heads` are written above the columns."""
    longest = max(map(len, heads), default=0)
    slanted = longest > 7
    above = 0.05 * longest if slanted else 0  # inches that slanted heads rise above the rows
    figure = Figure(figsize=(0.62 * columns + 2.2, 0.68 * len(rows) + above + (0.5 if title else 0.1)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, rows.items()):
        shown = images[:columns].clamp(-1, 1).permute(0, 2, 3, 1).numpy() / 2 + 0.5  # (n, H, W, 3)
        shown = np.pad(shown, ((0, columns - len(shown)), (1, 1), (1, 1), (0, 0)), constant_values=0.35)
        axis.imshow(np.concatenate(list(shown), axis=1), interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    if heads:
        width = shown.shape[2]  # of a picture with its frame
        turned = {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
        axes[0].set_xticks([(place + 0.5) * width for place in range(len(heads))], heads, fontsize=9, **turned)
        axes[0].tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    if title:
        figure.suptitle(title, fontsize=12)
    return describe(figure, f"Rows of pictures: {', '.join(rows)}.")


def draw_with_interval(axis: Axes, rows: pandas.DataFrame, place: str, value: str, colour: str, label: str, *,
                       log: bool = False) -> None:  # fmt: skip
    """The mean over seeds of `value` against `place`, and its 95 % interval where there are seeds enough for one; `log`: geometric."""
    inward, outward = (np.log, np.exp) if log else (np.asarray, np.asarray)
    summary = [(at, estimate(inward(group.to_numpy()))) for at, group in rows.groupby(place)[value]]
    if not summary:
        return
    places = np.array([at for at, _ in summary])
    means = np.array([found.mean for _, found in summary])
    halves = _shown_halves([found for _, found in summary])
    axis.plot(places, outward(means), color=colour, marker="o", markersize=4, label=label)
    axis.fill_between(places, outward(means - halves), outward(means + halves), color=colour, alpha=0.18, linewidth=0)


def log_band(axis: Axes, places: Sequence[float], found: Sequence[Estimate], colour: str) -> None:
    """The intervals of logarithms as a band on a log axis; none where there are too few seeds for one."""
    means, halves = np.array([one.mean for one in found]), _shown_halves(found)
    if np.isfinite(halves).any():
        axis.fill_between(places, np.exp(means - halves), np.exp(means + halves), color=colour, alpha=0.15, linewidth=0)


def _shown_halves(found: Sequence[Estimate]) -> np.ndarray:
    return np.array([one.half_width if one.has_interval else np.nan for one in found])


def label_ends(axis: Axes, ends: Sequence[tuple[float, str, str]], x: float | None = None, *, side: Literal["left", "right"] = "right",
               gap: float = 0.065) -> None:  # fmt: skip
    """Each curve's label beside its end, `ends` being (height, label, colour): on this side of `x`, or right of the axes.

    Labels keep the order of the curves, stand `gap` of the axes' height apart where they would overlap, and inside the axes.
    """
    from matplotlib.patheffects import withStroke

    inward, outward = (np.log, np.exp) if axis.get_yscale() == "log" else (np.asarray, np.asarray)
    low, high = inward(axis.get_ylim())
    ends = sorted(ends)
    heights = (inward([height for height, *_ in ends]) - low) / (high - low)
    places = heights.copy()
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places -= max(0.0, (places - heights).mean())
    places += max(0.0, gap / 2 - places.min()) - max(0.0, places.max() - 1)
    across = {"x": 1.01, "transform": axis.get_yaxis_transform()} if x is None else {"x": x}
    align = {"left": "right", "right": "left"}[side]
    for (_, label, colour), y in zip(ends, outward(low + (high - low) * places)):
        text = axis.text(y=y, s=label, color=colour, va="center", ha=align, fontsize=10, fontweight="bold", **across)
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])  # readable across a line


def step_axis(axis: Axes, steps: Sequence[int], room: float) -> None:
    """A logarithmic axis of training steps, as far as `room` times the last one, for the curves' names."""
    axis.set_xscale("log", base=2)
    axis.set_xlim(0.85 * min(steps), room * max(steps))
    axis.set_xticks(list(steps), [f"{step:,}" for step in steps])
    axis.minorticks_off()
    axis.set_xlabel("training steps", fontsize=11)


def describe(figure: Figure, text: str) -> Figure:
    """Attach alt text: what is drawn, and what is to be seen in it."""
    figure.set_label(text)
    return figure
