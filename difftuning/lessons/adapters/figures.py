"""Figures of lesson 07: values in, Figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from ..figures import Figure, describe, picture_rows, theme
from ..filmstrip import Strip
from ..labels import Label, along, place_labels
from ..memory import BATCH, Memory
from ..memory_bars import memory_bars, name_parts
from ..parts import GUIDANCES, RUNS, Parts, mean_saved, ratios, score, seeds_in_words
from ..tuning.plane import LOSS, STEPS, Study, View, path, place, set_name
from .effects import measured, pair
from .learning import at_equal_loss
from .variants import FULL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

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
WIDER = {"DiffFit": 1.6}  # BitFit lies on it, and the wider one shows around


def memory_figure(found: Mapping[str, Mapping[str, Memory]]) -> Figure:
    """Stacked bars of the memory of a training: a panel for each model, a bar for each adapter."""
    names = list(next(iter(found.values())))
    with theme():
        figure = Strip(figsize=(10.4, 0.42 * len(names) + 1.6), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True)
    for axis, (title, memories) in zip(axes, found.items()):
        unit, size = next(((unit, size) for unit, size in UNITS if memories[FULL].total > size), UNITS[-1])
        totals = memory_bars(axis, [memories[name] for name in names], size)
        for height, total in enumerate(totals):
            axis.text(total + 0.012 * totals.max(), height, f"{total:.0f}", va="center", fontsize=10)
        axis.set_title(title, fontsize=12)
        axis.set_xlabel(f"{unit}, {BATCH} pictures in a batch", fontsize=11)
        axis.set_xlim(0, 1.1 * totals.max())
    axes[0].set_yticks(range(len(names)), names, fontsize=11)
    name_parts(figure, axes[0])
    seen = (
        f"{title}: "
        + ", ".join(f"{name} {memory.total / memories[FULL].total:.0%} of {FULL}" for name, memory in memories.items() if name != FULL)
        for title, memories in found.items()
    )
    return describe(figure, f"Memory of a training by part. {'; '.join(seen)}.")


def drawn_figure(rows: Mapping[str, Tensor], new: Sequence[str], old: Sequence[str]) -> Figure:
    """Rows of samples, new classes to the left of old ones: larger than elsewhere, and the rows further apart.  White means unknown."""
    figure = picture_rows(rows, columns=len(new) + len(old), heads=[*new, *old])
    figure.set_size_inches(1.5 * figure.get_size_inches())
    figure.get_layout_engine().set(h_pad=0.1)
    for axis, images in zip(figure.axes, rows.values()):
        width = (axis.get_xlim()[1] + 0.5) / (len(new) + len(old))
        axis.axvline(len(new) * width - 0.5, color="white", linewidth=8)
        for column, image in enumerate(images):
            if image.min() >= 1:
                axis.text((column + 0.5) * width - 0.5, 0.5 * width, "not\nknown", ha="center", va="center", fontsize=11, color="0.4")
    return figure


def settings(parts: Parts) -> dict[str, tuple[str, str]]:
    """The settings of the arrow figure by name: a task and a guidance each."""
    return {f"{task} ({RUNS[task]:,}), guidance {guidance}": (task, guidance) for task in parts.tasks for guidance in reversed(GUIDANCES)}


def arrow_figure(parts: Parts, setting: str) -> Figure:
    """An arrow for each adapter and for all weights, from plain tuning to Diff-Tuning; left keeps the old, low has the better samples.

    The horizontal axis is cut between the adapters and all weights; both of its parts have the same scale.  A crossed end is a 95 % interval.
    """
    task, guidance = settings(parts)[setting]
    with theme():
        figure = Strip(figsize=(10.4, 6.0), layout="constrained")
    arrows = {name: [_place(parts, task, method, guidance) for method in pair(name)] for name in [FULL, *measured(parts)]}
    groups = (measured(parts), [FULL])
    across = [np.array([x for name in names for x, _ in arrows[name]]) for names in groups]
    limits = [_around([across[0].max() ** -0.25, *across[0]], 0.18), _around(across[1])]  # room for names left of the untouched model
    with theme():
        panels = figure.subplots(1, 2, sharey=True, width_ratios=[float(np.log(high / low)) for low, high in limits])  # the same scale
    figure.get_layout_engine().set(wspace=0.01)
    everything = np.array([*arrows.values()]).reshape(-1, 2)
    for axis, names, limit in zip(panels, groups, limits):
        axis.set(xscale="log", yscale="log", xlim=limit, ylim=_around(everything[:, 1]))
        _ticks(axis, 5)
        for name in reversed(names):
            _arrow(axis, arrows[name], ARROWS[name], WIDER.get(name, 1))
            for method in pair(name):
                _interval(axis, parts, task, method, guidance, ARROWS[name])
    panels[0].axvline(1, color="0.35", linewidth=1)
    panels[1].set_facecolor("0.97")
    panels[0].set_title("adapters", fontsize=11, loc="left")
    panels[1].set_title("same scale, further right", fontsize=11, loc="left")
    panels[0].annotate("better", (0.03, 0.03), (0.13, 0.11), xycoords="axes fraction", fontsize=11, color="0.4", ha="center",
                       arrowprops={"arrowstyle": "->", "color": "0.4"})  # fmt: skip
    figure.supxlabel(f"loss on old pictures, after / before, logarithmic (left: more is kept; {seeds_in_words(parts)})", fontsize=12)
    panels[0].set_ylabel("Frechet distance of new samples,\nlogarithmic (low: better)", fontsize=12)
    line = [(1, low) for low in panels[0].get_ylim()]
    figure.draw_without_rendering()  # lays the axes out
    for axis, names in zip(panels, groups):
        labels = [Label(_in_two_lines(name), arrows[name][0], ARROWS[name], 11.5, bold=name == FULL) for name in names]
        place_labels(axis, labels, along([*(arrows[name] for name in names), *([line] if FULL not in names else [])], count=40))
    seen = (f"{name} from ({first[0]:.2f}, {first[1]:.2f}) to ({last[0]:.2f}, {last[1]:.2f})" for name, (first, last) in arrows.items())
    return describe(figure, f"From plain tuning to Diff-Tuning, (loss on old pictures, Frechet distance), {setting}: {'; '.join(seen)}.")


def gains_figure(parts: Parts) -> Figure:
    """By how much Diff-Tuning lowers the Frechet distance, the mean over sets with its 95 % interval: a row for all weights and each adapter, a panel for each guidance."""
    names = [FULL, *measured(parts)]
    with theme():
        figure = Strip(figsize=(10.4, 0.42 * len(names) + 1.3), layout="constrained")
        axes = figure.subplots(1, len(GUIDANCES), sharex=True, sharey=True)
    seen = []
    for axis, guidance in zip(axes, reversed(GUIDANCES)):
        for row, name in enumerate(names):
            gain = mean_saved(parts, *reversed(pair(name)), guidances=[guidance])
            middle, *ends = (100 * (1 - np.exp(-end)) for end in (gain.mean, gain.mean - gain.half_width, gain.mean + gain.half_width))
            axis.plot(middle, row, "o", color=ARROWS[name], markersize=8)
            if gain.has_interval:
                axis.plot(ends, [row, row], color=ARROWS[name], linewidth=4, alpha=0.35, solid_capstyle="butt")
            seen.append(f"{name} at guidance {guidance} {middle:.0f} %")
        axis.axvline(0, color="0.35", linewidth=1)
        axis.set_title(f"guidance {guidance}", fontsize=12)
    axes[0].set_yticks(range(len(names)), names, fontsize=11)
    axes[0].invert_yaxis()
    figure.supxlabel(f"Frechet distance lower with Diff-Tuning by ... % (right: better; {seeds_in_words(parts)})", fontsize=11.5)
    return describe(figure, f"What Diff-Tuning adds to each method, mean over {len(parts.tasks)} sets: {'; '.join(seen)}.")


def equal_learning_figure(parts: Parts, study: Study) -> Figure:
    """Plain tuning's walk over its steps, and each adapter alone, on the plane of both losses: a panel for each set, zoomed on the adapters."""
    with theme():
        figure = Strip(figsize=(11.2, 5.2), layout="constrained")
        axes = figure.subplots(1, len(parts.tasks), squeeze=False)[0]
    guides: dict[str, list[list[tuple[float, float]]]] = {}  # at the same height
    points: dict[str, tuple[dict[str, tuple[float, float]], dict[int, tuple[float, float]]]] = {}
    for axis, task in zip(axes, parts.tasks):
        view = View(task, LOSS)
        dots = {name: place(parts, view, name).point for name in measured(parts)}
        walk = {step: where.point for step, where in path(study, view).items()}
        highest = max(y for _, y in (*dots.values(), *(at for step, at in walk.items() if step <= STEPS)))
        near = np.array([*dots.values(), (1, highest), *(at for at in walk.values() if at[1] <= highest)])
        axis.set(xscale="log", yscale="log", xlim=_around([0.88, *near[:, 0]], 0.08), ylim=_around(near[:, 1]))
        _ticks(axis)
        axis.axvline(1, color="0.35", linewidth=1)
        axis.plot(*zip(*walk.values()), color=ARROWS[FULL], linewidth=2, marker="o", markersize=6)
        levels = {name: at_equal_loss(parts, study, task, name) for name in dots}
        guides[task] = [[dots[name], (1 + level.plain, dots[name][1])] for name, level in levels.items() if level.reached]
        if len(guides[task]) < len(dots):
            guides[task].append([(1, lowest := min(y for _, y in walk.values())), (max(axis.get_xlim()), lowest)])
        for guide in guides[task]:
            axis.plot(*zip(*guide), color="0.6", linewidth=1, linestyle=":", zorder=1)
        for name, dot in reversed(dots.items()):
            axis.plot(*dot, marker="o", markersize=8 * WIDER.get(name, 1), color=ARROWS[name])
        axis.set_title(set_name(task), fontsize=12)
        points[task] = dots, {step: at for step, at in walk.items() if at[1] <= highest}
        if beyond := [f"{step:,}" for step in walk if step not in points[task][1]]:
            axis.text(0.6, 0.97, f"higher up:\n{' and '.join(beyond)} steps", transform=axis.transAxes, ha="right", va="top", fontsize=10)
    figure.supxlabel("loss on old pictures, after / before, logarithmic (left: more is kept)", fontsize=12)
    axes[0].set_ylabel("loss on new pictures, after / before,\nlogarithmic (low: better)", fontsize=12)
    figure.draw_without_rendering()  # lays the axes out
    for axis, (task, (dots, walk)) in zip(axes, points.items()):
        labels = [Label(_in_two_lines(name), dot, ARROWS[name], 11) for name, dot in dots.items()]
        labels += [Label(f"{step:,} steps", at, ARROWS[FULL], 10) for step, at in list(walk.items())[1:]]
        labels += [Label(f"{FULL},\n{step:,} steps", at, ARROWS[FULL], 10, bold=True) for step, at in list(walk.items())[:1]]
        steps = [*walk.values()]
        lines = [*zip(steps, steps[1:]), *guides[task], [(1, low) for low in axis.get_ylim()]]
        place_labels(axis, labels, along(lines, count=30))
    seen = (
        f"{task}: all weights {', '.join(f'({x:.2f}, {y:.2f}) after {step:,} steps' for step, (x, y) in walk.items())}; "
        + ", ".join(f"{name} ({x:.2f}, {y:.2f})" for name, (x, y) in dots.items())
        for task, (dots, walk) in points.items()
    )
    return describe(
        figure, f"Losses after / before (old pictures, new pictures), plain tuning of all weights and adapters. {'. '.join(seen)}."
    )


def _place(parts: Parts, task: str, method: str, guidance: str) -> tuple[float, float]:
    return float(np.exp(ratios(parts, task, "source", method).mean)), score(parts, task, method, guidance).mean


def _in_two_lines(name: str) -> str:
    """A long name needs less room so."""
    return name.replace("AdaptFormer, ", "AdaptFormer,\n")


def _around(values: Sequence[float], margin: float = 0.15) -> tuple[float, float]:
    """Limits of a logarithmic axis, with room around these values."""
    logs = np.log(np.asarray(values))
    room = margin * np.ptp(logs) + 0.002
    return float(np.exp(logs.min() - room)), float(np.exp(logs.max() + room))


def _ticks(axis: Axes, across: int = 6) -> None:
    """Plain numbers on logarithmic axes that span little."""
    from matplotlib.ticker import MaxNLocator

    for each, count in ((axis.xaxis, across), (axis.yaxis, 7)):
        each.set_major_locator(MaxNLocator(count, steps=[1, 2, 5, 10]))
        each.set_major_formatter("{x:.4g}")
    axis.minorticks_off()


def _arrow(axis: Axes, ends: list[tuple[float, float]], colour: str, wider: float = 1) -> None:
    axis.annotate(
        "",
        ends[1],
        ends[0],
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": 2.2 * wider,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 16 * wider,
        },
    )
    axis.plot(*ends[0], marker="o", markersize=7 * wider, color=colour)


def _interval(axis: Axes, parts: Parts, task: str, method: str, guidance: str, colour: str) -> None:
    old, new = ratios(parts, task, "source", method), score(parts, task, method, guidance)
    if not (old.has_interval and new.has_interval):
        return
    x, y = np.exp(old.mean), new.mean
    axis.plot(np.exp([old.mean - old.half_width, old.mean + old.half_width]), [y, y], color=colour, alpha=0.4, linewidth=1.2)
    axis.plot([x, x], [max(y - new.half_width, axis.get_ylim()[0]), y + new.half_width], color=colour, alpha=0.4, linewidth=1.2)
