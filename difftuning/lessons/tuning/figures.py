"""Figures of lesson 06: scores against steps, and the plane of adaptation against forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Mapping, Sequence

import numpy as np

from ...studies.gains import Estimate
from ..explorers import Frames, precompute
from ..figures import COLOURS, Figure, describe, label_ends, log_band, step_axis, theme
from ..filmstrip import Strip
from ..labels import Label, along, place_labels
from ..parts import RUNS, Parts, seeds_in_words
from .plane import CHAIN, FAMILIES, LOSS, MEASURES, METHODS, SAMPLES, STEPS, TERMS, Place, Study, View, front, path, places, set_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = {"stop early": "#A34700", "weight the loss": "#997700", "hold on": "#882255", "replay": "#117FB0"}  # a family's colour
MARKERS = dict(zip(("plain", *FAMILIES), "oDs^P"))
AXES = {LOSS: "loss on new pictures,\nafter / before (lower is better)"} | {
    name: f"Frechet distance of new samples,\nguidance {guidance} (lower is better)" for name, guidance in MEASURES.items() if guidance
}
ONE_BY_ONE = [(first, second) for alone in TERMS[1:3] for first, second in (("plain", alone), (alone, "Diff-Tuning"))]
PARTS_IN_WORDS = {"whole": "whole chain", "data end": "data end, t < 300", "noise end": "noise end, t ≥ 700"}


def convergence_figure(study: Study, measures: Sequence[str] = (LOSS, SAMPLES)) -> Figure:
    """New pictures against training steps, plain and by Diff-Tuning: a row for each measure, a column for each set."""
    tasks = study.end.tasks
    with theme():
        figure = Strip(figsize=(5.0 * max(len(tasks), 1.5), 3.3 * len(measures)), layout="constrained")
        axes = figure.subplots(len(measures), len(tasks), sharex=True, squeeze=False)
    seen: list[str] = []
    ends: list[list[tuple[float, str, str]]] = []
    for line, measure in zip(axes, measures):
        for axis, task in zip(line, tasks):
            ends.append([])
            for method in ("plain", "Diff-Tuning"):
                found = path(study, View(task, measure), method)
                end = _curve(axis, {step: where.missed for step, where in found.items()}, COLOURS[method])
                ends[-1].append((end, method, COLOURS[method]))
                seen.append(f"{task}, {measure}, {method}: " + ", ".join(f"{at.point[1]:.2f} after {step}" for step, at in found.items()))
            axis.set_title(set_name(task), fontsize=12)
            axis.margins(y=0.12)
        line[0].set_ylabel(AXES[measure], fontsize=10.5)
    for axis in axes[-1]:
        step_axis(axis, list(study.at), room=2.2)
    for axis, of_panel in zip(axes.flat, ends):  # once the limits are final
        label_ends(axis, of_panel, x=1.12 * max(line.get_xdata()[-1] for line in axis.lines))
    return describe(figure, f"New pictures against training steps; lower is better. {'; '.join(seen)}.")


def stopping_figure(study: Study, task: str) -> Figure:
    """Plain fine-tuning's walk over the plane, once by the loss and once by the samples, and where early stopping ends it."""
    with theme():
        figure = Strip(figsize=(10.4, 4.6))
        axes = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.13, top=0.92, wspace=0.24)
    views = [View(task, LOSS), View(task, SAMPLES)]
    for axis, view in zip(axes, views):
        shown = places(study.end, view, ["early stopping"])
        _draw(axis, view, shown, path(study, view), limits_of([*shown.values(), *path(study, view).values()]), marked=())
    seen = (f"{view.measure}: " + _path_in_words(path(study, view)) for view in views)
    return describe(figure, f"Plain fine-tuning, {set_name(task)}, by steps (old pictures, new ones). {'; '.join(seen)}.")


def terms_figure(terms: Parts, steps: int) -> Figure:
    """Plain fine-tuning, Diff-Tuning and either of its terms alone on the plane, a panel for each set."""
    with theme():
        figure = Strip(figsize=(10.4, 4.4))
        axes = figure.subplots(1, len(terms.tasks), squeeze=False)[0]
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.13, top=0.92, wspace=0.24)
    seen = []
    for axis, task in zip(axes, terms.tasks):
        view = View(task)
        found = places(terms, view, TERMS)
        _draw(axis, view, found, {}, limits_of(found.values()), marked=tuple(found), arrows=ONE_BY_ONE)
        axis.set_title(f"{set_name(task)}; {steps:,} steps ({seeds_in_words(terms)})", fontsize=12)
        seen.append(f"{task}: {_in_numbers(found)}")
    return describe(figure, f"Diff-Tuning's terms one by one (old pictures, samples). {'; '.join(seen)}.")


def plane_figure(study: Study, view: View, methods: Iterable[str] = METHODS, live: Mapping[str, Place] = {}) -> Figure:
    """The plane with these methods on it, of which the filled ones are not beaten by another.

    `live`: short runs of the reader's own, drawn as stars.
    """
    with theme():
        figure = Strip(figsize=(8.6, 5.6))
        axis = figure.subplots()
    figure.subplots_adjust(left=0.115, right=0.985, bottom=0.11, top=0.93)
    shown, walk = places(study.end, view, methods), path(study, view)
    best = list(shown) if live else front(shown, view.margins)  # a short run beats nobody
    limits = limits_of([*shown.values(), *walk.values(), *live.values()])
    _draw(axis, view, shown, walk, limits, marked=best, live=live, shaded=not live)
    axis.set_title(f"{set_name(view.task)}, {STEPS} steps; {PARTS_IN_WORDS[view.part]} ({seeds_in_words(study.end)})", fontsize=12)
    told = f"Your own short runs: {_in_numbers(live)}." if live else f"Not beaten: {', '.join(best)}."
    return describe(figure, f"Adaptation against forgetting (old pictures, {view.measure}): {_in_numbers(shown)}. {told}")


def plane_explorer(study: Study) -> Frames:
    """The plane with all methods, for every set, measure and part of the chain."""

    def draw(training_set: str, new_pictures_by: str, part_of_the_chain: str) -> Figure:
        return plane_figure(study, View(sets[training_set], new_pictures_by, part_of_the_chain))

    sets = {set_name(task): task for task in sorted(study.end.tasks, key=RUNS.__getitem__)}
    return precompute(draw, training_set=list(sets), new_pictures_by=[*MEASURES][::-1], part_of_the_chain=list(CHAIN))


def family_of(method: str) -> str:
    """Which of `FAMILIES` a method is of; plain fine-tuning is of its own."""
    return next((family for family, methods in FAMILIES.items() if method in methods), "plain")


def limits_of(found: Iterable[Place]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The axes' limits around these places, with room for labels; the line of what is not forgotten at all is on the plane."""
    points = np.log([where.point for where in found])
    low, high = np.minimum(points.min(0), [0, np.inf]), points.max(0)
    margin = np.maximum(0.14 * (high - low), 0.02)
    low, high = np.exp(low - margin * [0.4, 1]), np.exp(high + margin)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def colour_of(method: str) -> str:
    """A method's own colour where it has one in all lessons, otherwise its family's."""
    return COLOURS.get(method) or SHADES[family_of(method)]


def _draw(axis: Axes, view: View, shown: Mapping[str, Place], walk: Mapping[int, Place], limits: tuple, *, marked: Sequence[str],
          live: Mapping[str, Place] = {}, arrows: Sequence[tuple[str, str]] = (), shaded: bool = False) -> None:  # fmt: skip
    """Points, bars and labels; `marked` points are filled.  `walk`: plain fine-tuning by steps.  `shaded`: where a marked point is better on both."""
    _log_scale(axis, *limits)
    axis.axvline(1, color="0.35", linewidth=1)
    for method in marked if shaded else ():
        x, y = shown[method].point
        axis.fill_between([x, limits[0][1]], y, limits[1][1], color="0.95", linewidth=0, zorder=0)
    lines = [(shown[first].point, shown[second].point) for first, second in arrows if {first, second} <= set(shown)]
    for first, second in lines:
        axis.annotate("", second, first, arrowprops={"arrowstyle": "->", "color": "0.65", "shrinkA": 8, "shrinkB": 8})
    steps = [where.point for where in walk.values()]
    if steps:
        axis.plot(*zip(*steps), color=COLOURS["plain"], linewidth=1.3, alpha=0.7, marker="o", markersize=4, zorder=2)
    for method, where in shown.items():
        colour, (x, y) = colour_of(method), where.point
        bars = [None if not at.has_interval else [[z - z / np.exp(at.half_width)], [z * np.exp(at.half_width) - z]]
                for at, z in zip(where, (x, y))]  # fmt: skip
        axis.errorbar([x], [y], xerr=bars[0], yerr=bars[1], color=colour, alpha=0.4, linewidth=1.2, zorder=2)
        face = colour if method in marked else "white"
        axis.plot(x, y, marker=MARKERS[family_of(method)], markersize=9, color=colour, markerfacecolor=face, markeredgewidth=1.6, zorder=3)
    for where in live.values():
        axis.plot(*where.point, marker="*", markersize=17, color="#E69F00", markeredgecolor="black", zorder=4)
    labels = [Label(f"yours: {name}", where.point, "black", bold=True) for name, where in live.items()]
    labels += [Label(method, where.point, colour_of(method), bold=method in marked) for method, where in shown.items()]
    named = {where.point for where in shown.values()}
    labels += [Label(f"{step:,} steps", where.point, COLOURS["plain"], 9) for step, where in walk.items() if where.point not in named]
    lines += list(zip(steps, steps[1:]))
    place_labels(axis, labels, along(lines))
    axis.set_xlabel("loss on old pictures, after / before (left is better)", fontsize=11)
    axis.set_ylabel(AXES[view.measure], fontsize=11)


def _curve(axis: Axes, by_step: Mapping[int, Estimate], colour: str) -> float:
    """Means and intervals of logarithms against steps; the height of the end."""
    means = np.array([found.mean for found in by_step.values()])
    axis.plot(list(by_step), np.exp(means), color=colour, marker="o", markersize=5, linewidth=2)
    log_band(axis, list(by_step), list(by_step.values()), colour)
    return float(np.exp(means[-1]))


def _log_scale(axis: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    axis.set(xscale="log", yscale="log", xlim=xlim, ylim=ylim)
    for each, (low, high) in ((axis.xaxis, xlim), (axis.yaxis, ylim)):
        subs = (1, 2, 5) if high > 15 * low else (1, 1.5, 2, 3, 4, 5, 7)
        # on a wide scale even steps would leave the lower end without ticks
        locator = LogLocator(subs=subs, numticks=15) if high > 3 * low else MaxNLocator(7)
        ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        each.set_ticks(ticks, [f"{tick:.4g}" for tick in ticks])
        each.set_ticks([], minor=True)


def _in_numbers(found: Mapping[str, Place]) -> str:
    return ", ".join(f"{name} ({where.point[0]:.2f}, {where.point[1]:.2f})" for name, where in found.items())


def _path_in_words(walk: Mapping[int, Place]) -> str:
    return _in_numbers({f"after {step}": where for step, where in walk.items()})
