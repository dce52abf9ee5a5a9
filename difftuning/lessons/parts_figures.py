"""Figures of the study "parts" (lessons 04 and 05): they draw the sets, methods and seeds that its tables hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
import torch

from ..data.tasks import load_task
from .figures import COLOURS, Figure, describe, label_ends, log_band, theme
from .filmstrip import Strip
from .kept_samples import kept_samples
from .parts import GUIDANCES, RUNS, SIDES, TENTHS, Parts, ratio, ratios, rise_avoided, score, seeds_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"target": "new pictures", "source": "old pictures"}
MORE_COLOURS = {
    "weightings swapped": "#E69F00",
    "weighted, not sampled": "#882255",
    "Diff-Tuning, own labels": "#6A3D9A",
    "bank of 100": "#999933",
    "bank as small, all classes": "#C49C94",
    "bank of far classes": "#8C564B",
    "bank of noise": "#777777",
    "bank of target pictures": "#661100",
    "bank of real pictures": "#332288",
}
MARKERS = dict(zip(COLOURS | MORE_COLOURS, "*o^PsDvXp<h>8dH"))  # the same in every figure, as colours are
DASHED = ("bank of real pictures",)  # a line that would hide the one of the model's own
SHOWN = 10  # samples of each method


def loss_figure(parts: Parts, methods: Sequence[str], sides: Sequence[str] = SIDES, names: Mapping[str, str] = {}) -> Figure:
    """Held-out loss after / before tuning in each tenth of the chain: a row for each task and a column for each side, or one row of one side.

    `names`, in this and other figures: what a method is called, where not as in the tables.
    """
    methods = parts.present(methods)
    rows, columns = (len(parts.tasks), len(sides)) if len(sides) > 1 else (1, len(parts.tasks))
    with theme():
        figure = Strip(figsize=(4.8 * max(columns, 1.5) + 1.6, 0.5 + 2.8 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False)
    ends = {}
    for axis, (task, data) in zip(axes.flat, ((task, data) for task in parts.tasks for data in sides)):
        heights = {method: _loss_line(axis, parts, task, data, method) for method in methods}
        ends[axis] = [(height, names.get(method, method), colour_of(method)) for method, height in heights.items() if height]
        axis.axhline(1, color="0.35", linewidth=1)
        axis.set_title(f"{TITLES[data]}, after tuning on {task} ({RUNS[task]:,})", fontsize=12)
    for line in axes:
        _ratio_scale(line[0])
        line[0].set_ylabel("loss after / before\n(log scale)", fontsize=11)
        label_ends(line[-1], ends[line[-1]])
    for axis in axes[-1]:
        axis.set_xticks(TENTHS)
    figure.supxlabel(f"tenth of the chain (1: least noise); {seeds_in_words(parts)}", fontsize=11)
    found = (
        f"{task}, {TITLES[data]}: " + ", ".join(f"{method} {ratio(parts, task, data, method):.2f}" for method in methods)
        for task in parts.tasks
        for data in sides
    )
    return describe(
        figure, f"Held-out loss after tuning over that before, by tenth of the chain. Means over the chain: {'; '.join(found)}."
    )


def score_figure(parts: Parts, methods: Sequence[str], names: Mapping[str, str] = {}) -> Figure:
    """Frechet distance of each method's samples, a row of panels for each task and a column for each guidance.

    Lines lead down from plain fine-tuning (dashed) and from real pictures (dotted), the last row.
    """
    methods = parts.present(methods)
    rows = [names.get(method, method) for method in methods] + ["real pictures"] * bool(parts.floors)
    with theme():
        figure = Strip(figsize=(9.6, len(parts.tasks) * (0.36 * len(rows) + 0.65) + 0.5), layout="constrained")
        axes = figure.subplots(len(parts.tasks), len(GUIDANCES), sharex="row", sharey=True, squeeze=False)
    for line, task in zip(axes, parts.tasks):
        for axis, guidance in zip(line, GUIDANCES):
            for place, method in enumerate(methods):
                _score_mark(axis, parts, task, method, guidance, place)
            axis.axvline(score(parts, task, "plain", guidance).mean, color=COLOURS["plain"], linestyle="--", linewidth=1.2, zorder=0)
            if task in parts.floors:
                axis.axvline(parts.floors[task], color="0.3", linestyle=":", linewidth=1.6, zorder=0)
                axis.plot(parts.floors[task], len(methods), color="0.3", marker="|", markersize=12, markeredgewidth=3)
            axis.set_title(f"{task}, guidance {guidance}", fontsize=12)
        line[0].set_xlim(left=0)
    axes[0, 0].set_yticks(range(len(rows)), rows, fontsize=11)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(f"Frechet distance (left is better); {seeds_in_words(parts)}", fontsize=11)
    found = (
        f"{task}, guidance {guidance}: " + ", ".join(f"{method} {score(parts, task, method, guidance).mean:.2f}" for method in methods)
        for task in parts.tasks
        for guidance in GUIDANCES
    )
    real = ", ".join(f"{parts.floors[task]:.2f} ({task})" for task in parts.tasks if task in parts.floors)
    return describe(figure, f"Frechet distance of samples, lower is better. {'; '.join(found)}. Real pictures: {real or 'not measured'}.")


def avoided_figure(parts: Parts, methods: Sequence[str], other: str = "reconsolidation only", names: Mapping[str, str] = {}) -> Figure:
    """The share of another method's rise in the loss on old pictures that each method avoids: bars from 0 to 1, a panel for each task."""
    methods = parts.present(methods)
    with theme():
        figure = Strip(figsize=(4.0 * max(len(parts.tasks), 1.5) + 2, 0.42 * len(methods) + 1.3), layout="constrained")
        axes = figure.subplots(1, len(parts.tasks), sharex=True, sharey=True, squeeze=False)[0]
    found = []
    for axis, task in zip(axes, parts.tasks):
        for place, method in enumerate(methods):
            share = rise_avoided(parts, task, method, other)
            if not share.seeds:
                continue
            error = 100 * share.half_width if share.has_interval else None
            axis.barh(place, 100 * share.mean, xerr=error, color=colour_of(method), height=0.62, error_kw={"capsize": 4})
            axis.text(max(0, 100 * share.mean) + 1.5 + (error or 0), place, f"{100 * share.mean:.0f} %", va="center", fontsize=11)
            found.append(f"{method} {100 * share.mean:.0f} % ({task})")
        axis.axvline(0, color="0.35", linewidth=1)
        axis.set_title(f"{task}, {RUNS[task]:,} pictures", fontsize=12)
        axis.grid(False, axis="y")
    axes[0].set_xlim(min(0, axes[0].get_xlim()[0]), 100)  # at 100 nothing would be forgotten
    axes[0].set_yticks(range(len(methods)), [names.get(method, method) for method in methods], fontsize=11)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.supxlabel(f"part of the rise that the bank avoids, % ({seeds_in_words(parts)})", fontsize=11)
    return describe(figure, f"How much of the rise in the loss on old pictures under {other} each method avoids: {', '.join(found)}.")


def samples_figure(parts: Parts, methods: Sequence[str]) -> Figure:
    """A row of samples of each method, all from the same noise, below real pictures; a column for each task, its pictures sorted by class."""
    methods = parts.present(methods)
    height = 0.9 if len(parts.tasks) == 1 else 0.56
    with theme():
        figure = Strip(figsize=(11.2, height * (len(methods) + 1) + 0.6), layout="constrained")
        axes = figure.subplots(len(methods) + 1, len(parts.tasks), squeeze=False)
    for column, task in zip(axes.T, parts.tasks):
        held_out = load_task(task, split="test")
        classes = torch.arange(SHOWN) % len(held_out.class_names)
        turn = torch.arange(SHOWN) // len(held_out.class_names)  # another picture where a class comes again
        order = classes.argsort(stable=True)  # a class side by side, below its name
        real = held_out.read([int((held_out.labels == label).nonzero()[n]) for label, n in zip(classes.tolist(), turn.tolist())])
        kept = kept_samples("parts", task, RUNS[task], methods)
        for axis, pictures in zip(column, [real, *(kept.get(method, real[:0])[:SHOWN] for method in methods)]):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if len(pictures):
                pictures = pictures[order[order < len(pictures)]]
                shown = np.pad(pictures.permute(0, 2, 3, 1).numpy() / 2 + 0.5, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
                axis.imshow(np.concatenate(list(shown.clip(0, 1)), axis=1), interpolation="nearest")
        side = real.shape[-1] + 2
        middles = {
            held_out.class_names[label]: float((classes[order] == label).nonzero().float().mean()) for label in classes.unique().tolist()
        }
        column[0].grid(False)
        column[0].set_xticks([(place + 0.5) * side for place in middles.values()], list(middles), fontsize=11)
        column[0].tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
        column[0].set_title(f"{task}, guidance 1.5", fontsize=12)
    for axis, name in zip(axes[:, 0], ["real pictures", *methods]):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    return describe(
        figure, f"Samples of {' and '.join(parts.tasks)} at guidance 1.5, below real pictures: a row each for {', '.join(methods)}."
    )


def colour_of(method: str) -> str:
    """The colour that a method has in every figure of these lessons."""
    return (COLOURS | MORE_COLOURS).get(method, "0.5")


def marker_of(method: str) -> str:
    """The marker that a method has in every figure of these lessons."""
    return MARKERS.get(method, "o")


def _loss_line(axis: Axes, parts: Parts, task: str, data: str, method: str) -> float | None:
    """Where the line ends; None, and no line, for what was not run."""
    found = [ratios(parts, task, data, method, [tenth]) for tenth in TENTHS]
    if not found[0].seeds:
        return None
    means = np.array([one.mean for one in found])
    style = {"color": colour_of(method), "linestyle": "--" if method in DASHED else "-"}
    axis.plot(TENTHS, np.exp(means), marker=marker_of(method), markersize=6, linewidth=2, **style)
    log_band(axis, TENTHS, found, colour_of(method))
    return float(np.exp(means[-1]))


def _ratio_scale(axis: Axes) -> None:
    """A log axis on which half and twice lie equally far from 1."""
    axis.set_yscale("log", base=2)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.95), max(high, 1.1))
    ticks = [tick for tick in (0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8) if axis.get_ylim()[0] <= tick <= axis.get_ylim()[1]]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _score_mark(axis: Axes, parts: Parts, task: str, method: str, guidance: str, place: int) -> None:
    found, colour = score(parts, task, method, guidance), colour_of(method)
    if found.has_interval:
        axis.errorbar([found.mean], [place], xerr=[found.half_width], color=colour, linewidth=2, capsize=4)
    if found.seeds:
        axis.plot([found.mean], [place], color=colour, marker=marker_of(method), markersize=9, linestyle="none")
