"""Figures of the gains: against pictures, against steps, and all cells at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from ...studies.gains import Estimate
from ..figures import COLOURS, Figure, describe, label_ends, theme
from ..filmstrip import Strip
from ..parts import SAME, STEPS
from .runs import (
    GUIDED,
    MEASURES,
    NEW,
    OLD,
    TASKS,
    UNGUIDED,
    Cell,
    Lost,
    by_pictures,
    by_steps,
    called,
    cells,
    gain,
    lost_of,
    lower,
    on_course,
    seeds_footnote,
    sets,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

TASK_COLOURS = {"footwear": "#882255", "digits": "#117733"}
SIZE_STYLES = ("-", "--", "-.", ":")
TICKS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5)
COARSE = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5)  # where an axis spans more than a factor of three
LEAST_POINTS = 3  # of a line
SHOWN_STEPS = (400, 800, 1600)  # of the map
SHORT = {GUIDED: "samples,\nguidance 1.5", UNGUIDED: "samples,\nguidance 1", NEW: "loss on\nnew pictures", OLD: "loss on\nold pictures"}
OWN_BEST = "samples,\nown best"


def sizes_figure(gains: pandas.DataFrame, lost: Sequence[Lost] = (), steps: int = STEPS) -> Figure:
    """The gain against the number of training pictures, a panel for each measure, a line for each task; in grey what counts as the same.

    A `lost` run, which would stretch the axis, is a cross at its border, and no part of a mean.
    """
    kept = on_course(gains, lost)
    lines = {
        measure: {task: by_pictures(kept, task, measure, steps) for task in TASKS if by_pictures(kept, task, measure, steps)}
        for measure in MEASURES
    }
    note = f"{steps} steps, {seeds_footnote(kept[kept.steps == steps])}"
    figure = _panels(lines, "training pictures", note, lambda task: (TASK_COLOURS[task], "-"))
    for axis, measure in zip(figure.axes, MEASURES):
        for cell in cells(gains, measure, steps=steps):
            if lost_of(gains, cell, lost):
                _cross(axis, cell.pictures, TASK_COLOURS[cell.task])
    return figure


def _cross(axis: Axes, place: int, colour: str) -> None:
    """A cross at the lower border, below all points: a run that became unstable, far below."""
    axis.set_ylim(bottom=0.93 * axis.get_ylim()[0])
    across = axis.get_xaxis_transform()
    axis.plot(place, 0.07, "x", color=colour, markersize=9, markeredgewidth=2.5, transform=across)
    axis.text(place, 0.13, "unstable", color=colour, fontsize=9, ha="center", va="bottom", transform=across)


def steps_figure(gains: pandas.DataFrame) -> Figure:
    """The gain against training steps, a panel for each measure, a line for each set that has several."""
    lines = {}
    for measure in MEASURES:
        found = {(task, pictures): by_steps(gains, task, pictures, measure) for task, pictures in sets(gains, measure)}
        lines[measure] = {f"{task} {pictures:,}": mine for (task, pictures), mine in found.items() if len(mine) >= LEAST_POINTS}
    names = list(dict.fromkeys(name for mine in lines.values() for name in mine))

    def style(name: str) -> tuple[str, str]:
        task = name.partition(" ")[0]
        return TASK_COLOURS[task], SIZE_STYLES[[each for each in names if each.startswith(task)].index(name) % len(SIZE_STYLES)]

    return _panels(lines, "training steps", seeds_footnote(gains), style, names_at_the_start=False)


def _panels(
    lines: Mapping[str, Mapping[str, Mapping[int, Estimate]]], across: str, note: str, style, names_at_the_start: bool = True
) -> Figure:
    with theme():
        figure = Strip(figsize=(10.0, 7.0), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
    places = sorted({place for of_measure in lines.values() for found in of_measure.values() for place in found})
    seen = []
    for axis, (measure, of_measure) in zip(axes.flat, lines.items()):
        for number, (name, found) in enumerate(of_measure.items()):
            colour, dashes = style(name)
            _line(axis, found, colour, dashes, name, 1.05 ** (number - (len(of_measure) - 1) / 2))
            seen.append(f"{measure}, {name}: " + ", ".join(f"{lower(one):+.0f} % at {place:,}" for place, one in found.items()))
        axis.axhspan(np.exp(-MEASURES[measure]), np.exp(MEASURES[measure]), color="0.9", zorder=0)
        axis.set_title(measure, fontsize=12)
        axis.set_xscale("log")
        axis.set_xticks(places, [f"{place:,}" for place in places], fontsize=9)
        axis.minorticks_off()
    for row in axes:
        ratio_scale(row[0])
        row[0].set_ylabel("plain's / Diff-Tuning's\n(above 1: Diff-Tuning is better)", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel(f"{across} ({note})", fontsize=11)
    if names_at_the_start:
        for axis, of_measure in zip(axes.flat, lines.values()):
            axis.set_xlim(left=min(places) / 4)
            starts = [(float(np.exp(found[min(found)].mean)), name, style(name)[0]) for name, found in of_measure.items()]
            label_ends(axis, starts, x=0.85 * min(places), side="left")
    else:
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10.5, frameon=False, handlelength=3)
    return describe(figure, f"By how much Diff-Tuning's numbers are lower than plain fine-tuning's. {'; '.join(seen)}.")


def _line(axis: Axes, found: Mapping[int, Estimate], colour: str, dashes: str, name: str, aside: float) -> None:
    """Points and intervals stand a little `aside` (a factor), so that those of several sets do not cover each other."""
    means = np.exp([one.mean for one in found.values()])
    axis.plot([aside * place for place in found], means, color=colour, linestyle=dashes, marker="o", markersize=6, linewidth=2, label=name)
    for place, one in found.items():
        if one.has_interval:
            ends = np.exp([one.mean - one.half_width, one.mean + one.half_width])
            axis.plot([aside * place] * 2, ends, color=colour, linewidth=3, alpha=0.3)


def ratio_scale(axis: Axes) -> None:
    """A log axis with 1 on it, on which half and twice lie equally far from 1."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    low, high = min(low, 0.96), max(high, 1.08)
    axis.set_ylim(low, high)
    shown = TICKS if high / low < 1.6 else COARSE if high / low > 3 else [tick for tick in TICKS if tick not in (0.95, 1.05)]
    ticks = [tick for tick in shown if low <= tick <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=10)
    axis.minorticks_off()


def map_figure(gains: pandas.DataFrame, best: Mapping[tuple[str, int], Estimate], lost: Sequence[Lost] = ()) -> Figure:
    """Every cell: a row for each set, columns by measure and steps; blue: Diff-Tuning's number is lower, by so many per cent.

    A cell that only a `lost` run has shows a word in place of its number; one of several runs, some of them lost, has a dagger.
    """
    rows = list(dict.fromkeys([*sets(gains), *best]))
    columns = [(SHORT[measure], steps, measure) for measure in (GUIDED, UNGUIDED) for steps in SHOWN_STEPS]
    columns += [(OWN_BEST, 0, GUIDED)] + [(SHORT[measure], steps, measure) for measure in (NEW, OLD) for steps in SHOWN_STEPS]
    held = {cell for measure in MEASURES for cell in cells(gains, measure)}

    def found(task: str, pictures: int, steps: int, measure: str) -> Estimate | None:
        cell = Cell(task, pictures, steps, measure)
        return gain(gains, cell) if cell in held else best.get((task, pictures)) if not steps else None

    with theme():
        figure = Strip(figsize=(11.0, 0.42 * len(rows) + 1.7), layout="constrained")
        axis = figure.subplots()
    for y, (task, pictures) in enumerate(rows):
        for x, (_, steps, measure) in enumerate(columns):
            one = found(task, pictures, steps, measure)
            if one is not None and one.seeds:
                cell = Cell(task, pictures, steps, measure)
                count = len(lost_of(gains, cell, lost))
                _tile(axis, x, y, one, measure, mark="" if not count else "†" if count < one.seeds else "unstable")
    axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axis.set_xticks(range(len(columns)), [f"{steps:,}" if steps else "" for _, steps, _ in columns], fontsize=10)
    axis.set_yticks(range(len(rows)), [f"{task} {pictures:,}" for task, pictures in rows], fontsize=11)
    signs = {"*": "too few runs for an interval", "†": "one of the runs became unstable"}
    told = "".join(f"; {sign}: {what}" for sign, what in signs.items() if any(sign in text.get_text() for text in axis.texts))
    axis.set_xlabel(f"training steps ({seeds_footnote(gains[gains.steps.isin(SHOWN_STEPS)])}{told})", fontsize=11)
    axis.grid(False)
    _heads(axis, [title for title, *_ in columns])
    better = sum(called(one, GUIDED) != SAME and one.mean > 0 for one in best.values())
    return describe(
        figure,
        f"By how many per cent Diff-Tuning's numbers are lower, {len(rows)} sets by {len(columns)} measurements. "
        f"At own best it is better in {better} of {len(best)} sets.",
    )


def _tile(axis: Axes, x: int, y: int, one: Estimate, measure: str, mark: str) -> None:
    """A cell's square, the deeper the larger the gain, grey where it is not clear; a star: too few runs for an interval.

    `mark` is a sign beside the number, or a word in its place.
    """
    from matplotlib.patches import Rectangle

    same = called(one, measure) == SAME
    colour = "0.5" if same else COLOURS["Diff-Tuning" if one.mean > 0 else "plain"]
    depth = 0.2 if same else min(1.0, 0.25 + abs(one.mean) / 0.6)
    axis.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=colour, alpha=0.75 * depth, linewidth=0))
    told = mark if len(mark) > 1 else f"{lower(one):+z.0f}{'' if one.has_interval else '*'}{mark}"
    axis.text(x, y, told, ha="center", va="center", fontsize=10.5 if len(told) < 6 else 8.5, color="0.4" if same else "black")


def _heads(axis: Axes, titles: Sequence[str]) -> None:
    """A head over each group of columns, and a line between two groups."""
    groups = list(dict.fromkeys(titles))
    for title in groups:
        places = [place for place, own in enumerate(titles) if own == title]
        axis.text(np.mean(places), -0.62, title, ha="center", va="bottom", fontsize=10.5)
        axis.axvline(max(places) + 0.5, color="0.6", linewidth=1)
