"""Figures of the index that is measured before any tuning: along the chain, and beside the gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np

from ...evaluation.transferability import DATA_END
from ..figures import Figure, describe, label_ends, theme
from ..filmstrip import Strip
from ..parts import STEPS, TENTHS
from .figures import TASK_COLOURS, ratio_scale
from .runs import GUIDED, MEASURES, NEW, TASKS, by_pictures, seeds_footnote

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


def curves_figure(found: Mapping[str, Mapping]) -> Figure:
    """The untouched model's loss on each task / on its own pictures, by tenth of the chain; 1: as well as at home."""
    with theme():
        figure = Strip(figsize=(7.6, 4.2), layout="constrained")
        axis = figure.subplots()
    axis.axvspan(0.5, DATA_END + 0.5, color="0.94", zorder=0)
    axis.axhline(1, color="0.35", linewidth=1)
    ends, seen = [], []
    for name, one in found.items():
        ratio = np.asarray(one["ratio"])
        colour = TASK_COLOURS.get(name, "black")
        axis.plot(TENTHS, ratio, color=colour, marker="o", markersize=6, linewidth=2)
        ends.append((float(ratio[-1]), f"{name} ({one['index']:+z.2f})", colour))
        seen.append(f"{name}: index {one['index']:+z.2f}, " + " ".join(f"{each:.2f}" for each in ratio))
    axis.set_xticks(TENTHS)
    axis.set_xlim(0.5, 13.4)
    ratio_scale(axis)
    axis.set_xlabel("tenth of the chain (1: least noise)", fontsize=11)
    axis.set_ylabel("loss on the new pictures\n/ loss on its own", fontsize=11)
    axis.text(2, axis.get_ylim()[0], "the index", ha="center", va="bottom", fontsize=11, color="0.3")
    label_ends(axis, ends, x=10.25)
    return describe(figure, f"Before any tuning, loss on new pictures over that on the model's own. {'; '.join(seen)}.")


def index_figure(gains: pandas.DataFrame, indices: Mapping[str, float], steps: int = STEPS) -> Figure:
    """The gain of each set, named by its number of pictures, against its task's index; dashed: an index whose gain nobody has measured."""
    with theme():
        figure = Strip(figsize=(10.0, 4.4), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True)
    for axis, measure in zip(axes, (GUIDED, NEW)):
        _panel(axis, {task: by_pictures(gains, task, measure, steps) for task in TASKS}, indices, MEASURES[measure])
        axis.set_title(measure, fontsize=12)
        axis.set_xlabel(f"index ({seeds_footnote(gains[gains.steps == steps])})", fontsize=11)
    axes[0].set_ylabel("plain's / Diff-Tuning's\n(above 1: Diff-Tuning is better)", fontsize=11)
    said = ", ".join(f"{name} {index:+z.2f}" for name, index in indices.items())
    return describe(
        figure, f"Gain of each set after {steps} steps against its task's index ({said}); nobody has measured a gain for any other."
    )


def _panel(axis: Axes, found: Mapping[str, Mapping], indices: Mapping[str, float], margin: float) -> None:
    spread = max(np.ptp(list(indices.values())), 0.05)
    axis.axhspan(np.exp(-margin), np.exp(margin), color="0.9", zorder=0)
    axis.set_xlim(min(indices.values()) - 0.15 * spread, max(indices.values()) + 0.45 * spread)
    for task, mine in found.items():
        for one in mine.values():
            axis.plot(indices[task], np.exp(one.mean), "o", markersize=7, color=TASK_COLOURS[task])
            if one.has_interval:
                ends = np.exp([one.mean - one.half_width, one.mean + one.half_width])
                axis.plot([indices[task]] * 2, ends, color=TASK_COLOURS[task], alpha=0.35, linewidth=1.5)
    ratio_scale(axis)
    low, high = np.log(axis.get_ylim())
    low, high = np.exp(low - 0.2 * (high - low)), np.exp(high + 0.2 * (high - low))  # room for names
    axis.set_ylim(low, high)
    for task, mine in found.items():
        names = [(float(np.exp(one.mean)), f"{count:,}", TASK_COLOURS[task]) for count, one in mine.items()]
        label_ends(axis, names, x=indices[task] + 0.025 * spread, gap=0.05)
        axis.annotate(
            task, (indices[task], high), (0, -4), textcoords="offset points", va="top", ha="center", fontsize=11, color=TASK_COLOURS[task]
        )
    for name in set(indices) - set(found):
        axis.axvline(indices[name], color="0.6", linestyle="--", linewidth=1.5, zorder=1)
        axis.annotate(name, (indices[name], low), (5, 5), textcoords="offset points", va="bottom", fontsize=11, color="0.4")
