"""Figures of the knobs: each setting against samples and old pictures, beside plain fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..explorers import Frames, precompute
from ..figures import COLOURS, Figure, describe, theme
from ..filmstrip import Strip
from ..parts import GUIDANCES, LEAST_SEEDS, RUNS, Parts, ratios, score, seeds_in_words
from .knobs import KNOBS, was_run
from .runs import OURS, PLAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...studies.gains import Estimate

STYLES = {"": "-", "official": "-", "paper": "--"}
NAMES = {"official": "official family", "paper": "paper's family"}
AXES = ("Frechet distance,\nguidance {} (low: better)", "loss on old pictures,\nafter / before (low: more kept)")


def knob_explorer(parts: Parts) -> Frames:
    """The figure for every knob that was run, and both ways of guidance."""

    def draw(setting: str, guidance: str) -> Figure:
        return knob_figure(parts, setting, guidance)

    return precompute(draw, setting=[name for name in KNOBS if was_run(parts, name)], guidance=list(reversed(GUIDANCES)))


def knob_figure(parts: Parts, name: str, guidance: str = "1.5") -> Figure:
    """Score (above) and the old pictures' loss (below) against a knob's values, a column for each set; axes are the same for all knobs."""
    with theme():
        figure = Strip(figsize=(9.6, 6.2), layout="constrained")
        axes = figure.subplots(2, len(parts.tasks), sharex=True, squeeze=False)
    seen = []
    for task, column in zip(parts.tasks, axes.T):
        for axis, value in zip(column, (lambda m: _distance(parts, task, m, guidance), lambda m: ratios(parts, task, "source", m))):
            _panel(axis, parts, name, value)
        column[0].set_title(f"{task}, {RUNS[task]:,} pictures", fontsize=12)
        column[1].set_xlabel(f"{name} (star: the default)", fontsize=11)
        distances = (f"{v} {np.exp(_distance(parts, task, m, guidance).mean):.2f}" for v, m in KNOBS[name].others if parts.present([m]))
        plain, ours = (np.exp(_distance(parts, task, method, guidance).mean) for method in (PLAIN, OURS))
        seen.append(f"{task}: {', '.join(distances)}; default {ours:.2f}, plain {plain:.2f}")
    for axis, label in zip(axes[:, 0], AXES):
        axis.set_ylabel(label.format(guidance), fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10.5, frameon=False, title=seeds_in_words(parts),
                  handlelength=3)  # fmt: skip
    return describe(figure, f"{name}, Frechet distance at guidance {guidance}. {'; '.join(seen)}.")


def _distance(parts: Parts, task: str, method: str, guidance: str) -> Estimate:
    """The distance's logarithm."""
    found = score(parts, task, method, guidance)
    return found._replace(mean=float(np.log(found.mean)), half_width=found.half_width / found.mean)


def _panel(axis: Axes, parts: Parts, name: str, value) -> None:
    """The knob's lines, plain fine-tuning as a line, and limits that hold every knob's values."""
    knob = KNOBS[name]
    for line, values in knob.lines.items():
        shown = {place: value(method) for place, method in values.items() if parts.present([method])}
        shown = {place: found for place, found in shown.items() if np.isfinite(found.mean)}
        means, halves = (np.array([getattr(found, part) for found in shown.values()]) for part in ("mean", "half_width"))
        axis.plot(list(shown), np.exp(means), STYLES[line], color=COLOURS[OURS], marker="o", markersize=6, linewidth=2,
                  label=NAMES.get(line, "Diff-Tuning"))  # fmt: skip
        if all(found.seeds >= LEAST_SEEDS for found in shown.values()):
            axis.fill_between(list(shown), np.exp(means - halves), np.exp(means + halves), color=COLOURS[OURS], alpha=0.14, linewidth=0)
        if OURS in values.values():
            axis.plot(knob.default, np.exp(value(OURS).mean), "*", color=COLOURS[OURS], markersize=17, markeredgecolor="white", zorder=4)
    axis.axhline(np.exp(value(PLAIN).mean), color=COLOURS[PLAIN], linestyle=":", linewidth=2, label="plain fine-tuning")
    methods = parts.present([PLAIN, *(method for each in KNOBS.values() for values in each.lines.values() for method in values.values())])
    every = np.array([found.mean for found in map(value, methods) if np.isfinite(found.mean)])
    margin = 0.1 * np.ptp(every) + 0.01
    _scales(axis, name, np.exp(every.min() - margin), np.exp(every.max() + margin))


def _scales(axis: Axes, name: str, low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_yscale("log")
    axis.set_ylim(low, high)
    ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    axis.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
    if KNOBS[name].logarithmic:
        axis.set_xscale("log")
    places = sorted({place for values in KNOBS[name].lines.values() for place in values})
    axis.set_xticks(places, [f"{place:g}" for place in places])
    axis.minorticks_off()
