"""Figures of lesson 08: what conditions tell, the two gates, five curves of agreement, when each begins to obey, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from ...data.conditions import KINDS, Kind
from ...studies.controlnet import THRESHOLD
from ..figures import COLOURS, Figure, describe, draw_with_interval, label_ends, theme
from .runs import Runs
from .two_gates import PARTS

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Paul Tol's bright colours, as those of the methods are taken.
OF_KIND = dict(zip(KINDS, ("#4477AA", "#EE6677", "#228833", "#B8A020", "#AA3377")))
OF_METHOD = COLOURS | {"Diff-Tuning, null prompts": "#E69F00", "Diff-Tuning, black conditions": "#6A3D9A"}
OF_PART = dict(zip(PARTS, ("#D55E00", "#0072B2", "#56B4E9", "#000000")))


def information(table: pandas.DataFrame) -> Figure:
    """Bars: which share of the held-out pictures' variance each condition explains, a panel for each task; dashed: what the class alone explains.

    Columns task, condition, explained_by_condition, explained_by_class.
    """
    tasks = list(table.task.unique())
    with theme():
        figure = Figure(figsize=(1.6 + 3.4 * len(tasks), 2.9), layout="constrained")
        axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    seen = []
    for axis, task in zip(axes, tasks):
        rows = table[table.task == task]
        axis.barh(range(len(rows)), rows.explained_by_condition, color=[OF_KIND[kind] for kind in rows.condition], height=0.65)
        for place, share in enumerate(rows.explained_by_condition):
            axis.text(share - 0.02, place, f"{100 * share:.0f} %", va="center", ha="right", color="white", fontsize=10, fontweight="bold")
        alone = rows.explained_by_class.iloc[0]
        axis.axvline(alone, color="0.2", linestyle="--", linewidth=1.3)
        axis.text(alone, -0.55, "the class alone", va="bottom", ha="center", fontsize=9, color="0.2")
        axis.set(xlim=(0, 1), xlabel="share explained (1: the picture itself)")
        axis.set_title(task, loc="right", fontsize=12)
        axis.grid(False, axis="y")
        told = ", ".join(f"{kind} {share:.0%}" for kind, share in zip(rows.condition, rows.explained_by_condition))
        seen.append(f"{task}: {told}, the class {alone:.0%}")
    axes[0].set_yticks(range(len(rows)), rows.condition)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return describe(figure, f"Share of the pictures' variance that each condition explains. {'; '.join(seen)}.")


def two_gates(table: pandas.DataFrame, *, title: str = "") -> Figure:
    """The gradient of each part of a new ControlNet, step by step (columns step, part, gradient); rings on the ground are exact zeros."""
    with theme():
        figure = Figure(figsize=(7.6, 4.2), layout="constrained")
        axis = figure.subplots()
    axis.set_yscale("log")
    ground = table.gradient[table.gradient > 0].min() / 10
    seen, closed = [], 0
    for part, rows in table.groupby("part", sort=False):
        opened = rows[rows.gradient > 0]
        axis.plot(opened.step, opened.gradient, marker="o", color=OF_PART[part])
        zeros = rows[rows.gradient == 0].step
        heights = ground * 1.6 ** np.full(len(zeros), closed)
        axis.plot(zeros, heights, marker="o", linestyle="none", markerfacecolor="white", color=OF_PART[part])
        closed += bool(len(zeros))
        seen.append(f"{part} from step {opened.step.min()}")
    label_ends(axis, [(rows.gradient.iloc[-1], part, OF_PART[part]) for part, rows in table.groupby("part", sort=False)])
    axis.set(xlabel="training step", ylabel="length of the gradient", title=title)
    axis.set_xticks(sorted(table.step.unique()))
    axis.text(0.99, 0.02, "rings: exactly 0 (drawn one above the other)", transform=axis.transAxes, ha="right", fontsize=10, color="0.4")
    return describe(figure, f"Length of the gradient at each step. Not zero: {'; '.join(seen)}.")


def own_and_others(table: pandas.DataFrame, kind: Kind) -> Figure:
    """The agreement of a few drawings with the condition asked for, and with other pictures' conditions, against training steps; columns step, own, others."""
    with theme():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axis = figure.subplots()
    lines = {"the one asked for": ("own", OF_KIND[kind]), "of other pictures": ("others", "0.45")}
    for column, colour in lines.values():
        axis.plot(table.step, table[column], marker="o", markersize=4, color=colour)
    label_ends(axis, [(table[column].iloc[-1], name, colour) for name, (column, colour) in lines.items()])
    axis.set(xlabel="training steps", ylabel=f"agreement with the {kind} picture\n(1: equal)")
    seen = "; ".join(
        f"{name}, {table[column].iloc[0]:.2f} at first, {table[column].iloc[-1]:.2f} at last" for name, (column, _) in lines.items()
    )
    return describe(figure, f"Agreement of {kind} pictures against training steps: {seen}.")


def five_curves(table: pandas.DataFrame, *, title: str = "") -> Figure:
    """One method's agreement with each condition against training steps, means over seeds; a star where the mean of their sudden convergence lies.

    Columns kind, seed, step, scaled (0: the base without condition, 1: real pictures) and sudden_convergence, each run's.
    """
    with theme():
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axis = figure.subplots()
    seen = []
    for kind, rows in table.groupby("kind", sort=False):
        draw_with_interval(axis, rows, "step", "scaled", OF_KIND[kind], kind)
        steps = rows.groupby("seed").sudden_convergence.first()
        if steps.notna().any():
            axis.plot(steps.mean(), THRESHOLD, marker="*", markersize=15, color=OF_KIND[kind], markeredgecolor="white", zorder=5)
        seen.append(f"{kind} {_after(steps)}")
    _half_way(axis)
    last = table[table.step == table.step.max()].groupby("kind", sort=False).scaled.mean()
    label_ends(axis, [(end, kind, OF_KIND[kind]) for kind, end in last.items()])
    axis.set(xlabel="training steps", ylabel="agreement with the condition\n(0: the base, 1: real pictures)", title=title)
    return describe(figure, f"Agreement with five conditions against training steps. Sudden convergence: {'; '.join(seen)}.")


def agreement_by_method(table: pandas.DataFrame, *, title: str = "") -> Figure:
    """One condition's agreement against training steps, a curve for each method with its interval over seeds; columns method, seed, step, scaled."""
    with theme():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axis = figure.subplots()
    for method, rows in table.groupby("method", sort=False):
        draw_with_interval(axis, rows, "step", "scaled", OF_METHOD.get(method, "0.5"), method)
    _half_way(axis)
    axis.set(xlabel="training steps", ylabel="agreement with the condition\n(0: the base, 1: real pictures)", title=title)
    axis.legend(frameon=True, fontsize=10, loc="lower right")
    ends = table[table.step == table.step.max()].groupby("method", sort=False).scaled.mean()
    seen = "; ".join(f"{method} {share:.2f}" for method, share in ends.items())
    return describe(figure, f"Agreement against training steps; at the end, of the way from the base to real pictures: {seen}.")


def convergence_steps(scores: pandas.DataFrame, methods: Sequence[str] = ("plain", "Diff-Tuning"), *, title: str = "") -> Figure:
    """The step of sudden convergence of each condition under two methods, every run a dot, the means joined by a bar.

    Columns kind, method, seed, step, sudden_convergence.  The means are over seeds with which both converge; runs that never do are hollow
    triangles at the right.
    """
    with theme():
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axis = figure.subplots()
    kinds, seen, never = list(scores.kind.unique()), [], 1.06 * scores.step.max()
    for height, kind in enumerate(kinds):
        mine = scores[(scores.kind == kind) & scores.method.isin(methods)]
        steps = {method: mine[mine.method == method].sudden_convergence for method in methods}
        means = mine.pivot(index="seed", columns="method", values="sudden_convergence").reindex(columns=list(methods)).dropna().mean()
        axis.plot([means[method] for method in methods], [height, height], color="0.75", linewidth=4, zorder=1)
        for method, each in steps.items():
            axis.plot(each, np.full(len(each), height), marker="o", markersize=5, alpha=0.4, linestyle="none", color=COLOURS[method])
            missing = each.isna().sum()
            axis.plot(
                np.full(missing, never),
                height + np.linspace(-0.12, 0.12, missing),
                ">",
                markersize=7,
                markerfacecolor="none",
                color=COLOURS[method],
            )
            axis.plot(means[method], height, marker="o", markersize=11, color=COLOURS[method], label=method if height == 0 else None)
        seen.append(f"{kind}: " + ", ".join(f"{method} {_after(each)}" for method, each in steps.items()))
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_ylim(len(kinds) - 0.5, -0.5)
    axis.set(xlabel="step of sudden convergence", title=title)
    axis.set_xlim(0, 1.1 * scores.step.max())
    axis.legend(frameon=True, fontsize=10, loc="lower left")
    return describe(figure, f"Steps of sudden convergence, means over seeds. {'; '.join(seen)}.")


def costs(runs: Runs, methods: Sequence[str] = ("plain", "Diff-Tuning")) -> Figure:
    """What the runs end with, a row for each condition, every run a dot: Frechet distance, share of the prompts' words that the pictures follow, agreement.

    Dashed: the base without condition.  Dotted: real pictures through the autoencoder.
    """
    last = runs.agreement[runs.agreement.step == runs.agreement.step.max()]
    floors = runs.floors.groupby("pictures")[["fid", "caption_agreement"]].mean()
    base, real = (next(rows for name, rows in floors.iterrows() if name.startswith(word)) for word in ("base", "real"))
    panels = (
        ("Frechet distance\n(left is better)", runs.scores, "fid", base.fid, real.fid),
        ("words of the prompt followed\n(right is better)", runs.scores, "caption_agreement", base.caption_agreement, real.caption_agreement),
        ("condition obeyed\n(right is better)", last, "scaled", 0.0, 1.0),
    )  # fmt: skip
    with theme():
        figure = Figure(figsize=(10.4, 3.6), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
    kinds, seen = list(runs.scores.kind.unique()), []
    for axis, (name, table, column, low, high) in zip(axes, panels):
        for offset, method in zip((-0.14, 0.14), methods):
            mine = table[table.method == method].groupby("kind")[column]
            for height, kind in enumerate(kinds):
                values = mine.get_group(kind)
                axis.plot(values, np.full(len(values), height + offset), "o", markersize=4, alpha=0.4, color=COLOURS[method])
                label = method if height == 0 and axis is axes[0] else None
                axis.plot(values.mean(), height + offset, "o", markersize=9, color=COLOURS[method], label=label)
            seen.append(f"{name.splitlines()[0]}, {method}: {', '.join(f'{kind} {mine.mean()[kind]:.2f}' for kind in kinds)}")
        axis.axvline(low, color="0.2", linestyle="--", linewidth=1.2, label="the base, no condition" if axis is axes[0] else None)
        axis.axvline(high, color="0.2", linestyle=":", linewidth=1.6, label="real pictures" if axis is axes[0] else None)
        axis.set_xlabel(name, fontsize=11)
        axis.grid(False, axis="y")
    axes[0].set_xlim(left=0)
    axes[0].set_yticks(range(len(kinds)), kinds)
    axes[0].set_ylim(len(kinds) - 0.5, -0.5)
    figure.legend(loc="outside upper center", ncols=4, fontsize=10, frameon=False)
    return describe(figure, f"After the last step. {'; '.join(seen)}. Base: {base.fid:.2f} and {base.caption_agreement:.2f}.")


def _half_way(axis: Axes) -> None:
    """A line at the threshold; intervals of few seeds may leave the axes, so that the curves keep theirs."""
    drawn = np.concatenate([line.get_ydata() for line in axis.lines])
    axis.set_ylim(min(-0.15, drawn.min() - 0.05), max(1.15, drawn.max() + 0.05))
    axis.axhline(THRESHOLD, color="0.5", linestyle="--", linewidth=1)
    axis.text(0, THRESHOLD + 0.02, "half of the way", fontsize=9, color="0.4")


def _after(steps: pandas.Series) -> str:
    never = f" ({int(steps.isna().sum())} of {len(steps)} runs never)" if steps.isna().any() else ""
    return "never" if steps.isna().all() else f"after {steps.mean():.0f} steps{never}"
