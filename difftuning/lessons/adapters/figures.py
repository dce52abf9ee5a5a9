"""Figures of lesson 07: values in, Figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np

from ..figures import Figure, describe, theme
from ..filmstrip import Strip
from ..labels import Label, along, place_labels
from ..parts import GUIDANCES, LEAST_SEEDS, RUNS, Parts, ratios, score, seeds_in_words
from .effects import measured, pair
from .memory import FULL, Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {
    "weights": "0.75",
    "gradients": "#E69F00",
    "optimizer": "#D55E00",
    "average": "#CC79A7",
    "activations": "#56B4E9",
}
UNITS = (("GB", 1e9), ("MB", 1e6))
ARROWS = {  # most of them Paul Tol's muted colours; text in them must be readable
    FULL: "#000000",
    "BitFit": "#CC6677",
    "LoRA, rank 8": "#44AA99",
    "LoRA, rank 16": "#332288",
    "DiffFit": "#117733",
    "AdaptFormer, sequential": "#B07D00",
    "AdaptFormer, parallel": "#8C564B",
    "VPT-Deep": "#AA4499",
}


def memory_figure(found: Mapping[str, Mapping[str, Memory]]) -> Figure:
    """Stacked bars of the memory of a training: a panel for each model, a bar for each adapter."""
    names = list(next(iter(found.values())))
    with theme():
        figure = Strip(figsize=(10.4, 0.42 * len(names) + 1.6), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True)
    for axis, (title, memories) in zip(axes, found.items()):
        unit, size = next(((unit, size) for unit, size in UNITS if memories[FULL].total > size), UNITS[-1])
        left = np.zeros(len(names))
        for part, colour in PARTS.items():
            widths = np.array([getattr(memories[name], part) for name in names]) / size
            axis.barh(names, widths, left=left, color=colour, height=0.68, label=part)
            left += widths
        for place, total in enumerate(left):
            axis.text(total + 0.012 * left.max(), place, f"{total:.0f}", va="center", fontsize=10)
        axis.set_title(title, fontsize=12)
        axis.set_xlabel(unit, fontsize=11)
        axis.set_xlim(0, 1.1 * left.max())
        axis.grid(False, axis="y")
    axes[0].invert_yaxis()
    axes[0].tick_params(axis="y", labelsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), fontsize=11, frameon=False)
    seen = (
        f"{title}: "
        + ", ".join(f"{name} {memory.total / memories[FULL].total:.0%} of {FULL}" for name, memory in memories.items() if name != FULL)
        for title, memories in found.items()
    )
    return describe(figure, f"Memory of a training by part. {'; '.join(seen)}.")


def settings(parts: Parts) -> dict[str, tuple[str, str]]:
    """The settings of the arrow figure by name: a task and a guidance each."""
    return {f"{task} ({RUNS[task]:,}), guidance {guidance}": (task, guidance) for task in parts.tasks for guidance in reversed(GUIDANCES)}


def arrow_figure(parts: Parts, setting: str) -> Figure:
    """An arrow for each adapter and for all weights, from plain tuning to Diff-Tuning; left keeps the old, low has the better samples.

    All settings have the same axes.  A crossed end is a 95 % interval.
    """
    task, guidance = settings(parts)[setting]
    with theme():
        figure = Strip(figsize=(8.2, 5.4), layout="constrained")
        axis = figure.subplots()
    axis.set(xscale="log", yscale="log", **_limits(parts))
    axis.axvline(1, color="0.35", linewidth=1)
    arrows, seen = [], []
    for name in [FULL, *measured(parts)]:
        ends = [_place(parts, task, method, guidance) for method in pair(name)]
        arrows.append((name, ends))
        _arrow(axis, ends, ARROWS[name])
        for method in pair(name):
            _interval(axis, parts, task, method, guidance, ARROWS[name])
        seen.append(f"{name} from ({ends[0][0]:.2f}, {ends[0][1]:.2f}) to ({ends[1][0]:.2f}, {ends[1][1]:.2f})")
    for which, values in (("x", axis.get_xlim()), ("y", axis.get_ylim())):
        ticks = [
            tick
            for tick in (0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50)
            if values[0] < tick < values[1]
        ]
        getattr(axis, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("loss on old pictures, after / before (left: more is kept)", fontsize=12)
    axis.set_ylabel("Frechet distance of new samples\n(low: better)", fontsize=12)
    axis.text(0.99, 0.015, seeds_in_words(parts), transform=axis.transAxes, ha="right", va="bottom", fontsize=10, color="0.3")
    figure.draw_without_rendering()  # lays the axes out
    names = [Label(name, ends[0], ARROWS[name], bold=name == FULL) for name, ends in arrows]
    place_labels(axis, names, along(ends for _, ends in arrows))
    return describe(figure, f"From plain tuning to Diff-Tuning, (loss on old pictures, Frechet distance), {setting}: {'; '.join(seen)}.")


def _place(parts: Parts, task: str, method: str, guidance: str) -> tuple[float, float]:
    return float(np.exp(ratios(parts, task, "source", method).mean)), score(parts, task, method, guidance).mean


def _limits(parts: Parts) -> dict[str, tuple[float, float]]:
    methods = [method for name in [FULL, *measured(parts)] for method in pair(name)]
    places = [_place(parts, task, method, guidance) for task, guidance in settings(parts).values() for method in methods]
    across, up = np.log(np.array(places)).T
    across = np.append(across, 0)  # as before tuning
    wide, high = 0.12 * np.ptp(across) + 0.01, 0.12 * np.ptp(up) + 0.05
    return {
        "xlim": (np.exp(across.min() - wide), np.exp(across.max() + wide)),
        "ylim": (np.exp(up.min() - high), np.exp(up.max() + high)),
    }


def _arrow(axis: Axes, ends: list[tuple[float, float]], colour: str) -> None:
    axis.annotate(
        "",
        ends[1],
        ends[0],
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16},
    )
    axis.plot(*ends[0], marker="o", markersize=7, color=colour)


def _interval(axis: Axes, parts: Parts, task: str, method: str, guidance: str, colour: str) -> None:
    old, new = ratios(parts, task, "source", method), score(parts, task, method, guidance)
    if min(old.seeds, new.seeds) < LEAST_SEEDS:
        return
    x, y = np.exp(old.mean), new.mean
    axis.plot(np.exp([old.mean - old.half_width, old.mean + old.half_width]), [y, y], color=colour, alpha=0.4, linewidth=1.2)
    axis.plot([x, x], [max(y - new.half_width, axis.get_ylim()[0]), y + new.half_width], color=colour, alpha=0.4, linewidth=1.2)
