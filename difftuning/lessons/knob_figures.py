"""The figure of a knob: its values against samples and old pictures, beside plain fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from .figures import COLOURS, Figure, describe, label_ends, theme
from .filmstrip import Strip
from .knobs import KNOBS, OURS, PLAIN, sets_run
from .parts import RUNS, Parts, distance_saved, log_score, loss_saved, ratios, seeds_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..studies.gains import Estimate

STYLES = {"": "-", "official": "-", "paper": "--"}
AXES = ("Frechet distance,\nguidance {}", "loss on old pictures,\nafter / before")

Numbers = Mapping[str, Sequence[Mapping[str, "Estimate"]]]  # task -> logarithms of the distance and of the loss ratio, by method


def knob_figure(parts: Parts, name: str, guidance: str = "1.5", numbers: Numbers | None = None) -> Figure:
    """Score (above) and the old pictures' loss (below) against a knob's values, a column for each set that was run; axes are the same for all knobs.

    `numbers`: of `knob_numbers`, looked up once for several figures.
    """
    run = sets_run(parts, name)
    numbers = {task: found for task, found in (numbers or knob_numbers(parts, guidance)).items() if task in run}
    with theme():
        figure = Strip(figsize=(9.6, 5.2), layout="constrained")
        axes = figure.subplots(2, len(numbers), sharex=True, squeeze=False)
    seen = []
    for (task, found), column in zip(numbers.items(), axes.T):
        for axis, by_method in zip(column, found):
            _panel(axis, by_method, name)
        column[0].set_title(f"{task}, {RUNS[task]:,} pictures", fontsize=12)
        distances = {method: np.exp(one.mean) for method, one in found[0].items()}
        others = (f"{value} {distances[method]:.2f}" for value, method in KNOBS[name].others if method in distances)
        seen.append(f"{task}: {', '.join(others)}; default {distances[OURS]:.2f}, plain {distances[PLAIN]:.2f}")
    for axis, label in zip(axes[:, 0], AXES):
        axis.set_ylabel(label.format(guidance), fontsize=11)
    note = seeds_in_words(parts).replace("intervals", "intervals of the change from it")
    figure.supxlabel(f"{name} (star: the default); {note}; low is better", fontsize=11)
    return describe(figure, f"{name}, Frechet distance at guidance {guidance}. {'; '.join(seen)}.")


def knob_numbers(parts: Parts, guidance: str) -> Numbers:
    """What all knobs' figures show, for the sets with both plain fine-tuning and the default; a run that diverged or was not made is left out.

    A mean is the default's plus the difference from it, seed by seed, and the interval is that of the difference: seeds differ more than settings do.
    """
    methods = parts.present(
        [PLAIN, *dict.fromkeys(method for knob in KNOBS.values() for values in knob.lines.values() for method in values.values())]
    )
    found = {}
    for task in parts.tasks:
        distances, losses = {}, {}
        default = log_score(parts, task, OURS, guidance), ratios(parts, task, "source", OURS)
        for method in methods:
            saved = distance_saved(parts, task, method, OURS, guidance)
            if np.isfinite(saved.mean):
                distances[method] = _beside(default[0], saved)
                losses[method] = _beside(default[1], loss_saved(parts, task, method, OURS))
        if {PLAIN, OURS} <= set(distances):
            found[task] = (distances, losses)
    return found


def _beside(default: Estimate, saved: Estimate) -> Estimate:
    return saved._replace(mean=default.mean - saved.mean)


def _panel(axis: Axes, found: Mapping[str, Estimate], name: str) -> None:
    """The knob's lines, plain fine-tuning as a line, each labelled at its end, and limits that hold every knob's values."""
    knob, colour = KNOBS[name], COLOURS[OURS]
    ends = [(float(np.exp(found[PLAIN].mean)), "plain", COLOURS[PLAIN])]
    for aside, (line, values) in enumerate(knob.lines.items()):
        shown = {place: found[method] for place, method in values.items() if method in found}
        if not shown:
            continue
        means = np.array([one.mean for one in shown.values()])
        axis.plot(list(shown), np.exp(means), STYLES[line], color=colour, marker="o", markersize=6, linewidth=2)
        ends.append((float(np.exp(means[-1])), line or OURS, colour))
        for place, one in shown.items():
            if one.has_interval and values[place] != OURS:
                at = place if knob.logarithmic else place + 0.04 * aside  # two lines' bars beside each other
                axis.plot([at, at], np.exp(_ends(one)), STYLES[line], color=colour, linewidth=3, alpha=0.35)
        if OURS in values.values():
            axis.plot(knob.default, np.exp(found[OURS].mean), "*", color=colour, markersize=17, markeredgecolor="white", zorder=4)
    axis.axhline(np.exp(found[PLAIN].mean), color=COLOURS[PLAIN], linestyle=":", linewidth=2)
    every = [end for method, one in found.items() for end in (_ends(one) if one.has_interval and method != PLAIN else [one.mean])]
    margin = 0.1 * np.ptp(every) + 0.01
    _scales(axis, name, np.exp(min(every) - margin), np.exp(max(every) + margin))
    label_ends(axis, ends, gap=0.11)


def _ends(one: Estimate) -> list[float]:
    return [one.mean - one.half_width, one.mean + one.half_width]


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
