"""Figures of lesson 08: the two gates, five curves of agreement, and when each begins to obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from ...data.conditions import KINDS
from ...studies.controlnet import THRESHOLD
from ..figures import COLOURS, Figure, describe, draw_with_interval, label_ends, theme
from .two_gates import PARTS

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Paul Tol's bright colours, as those of the methods are taken.
OF_KIND = dict(zip(KINDS, ("#4477AA", "#EE6677", "#228833", "#B8A020", "#AA3377")))
OF_PART = dict(zip(PARTS, ("#D55E00", "#0072B2", "#56B4E9", "#000000")))


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
    axis.text(0.99, 0.02, "rings: exactly 0", transform=axis.transAxes, ha="right", fontsize=10, color="0.4")
    return describe(figure, f"Length of the gradient at each step. Not zero: {'; '.join(seen)}.")


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
        draw_with_interval(axis, rows, "step", "scaled", COLOURS.get(method, "0.5"), method)
    _half_way(axis)
    axis.set(xlabel="training steps", ylabel="agreement with the condition\n(0: the base, 1: real pictures)", title=title)
    axis.legend(frameon=True, fontsize=10, loc="lower right")
    ends = table[table.step == table.step.max()].groupby("method", sort=False).scaled.mean()
    seen = "; ".join(f"{method} {share:.2f}" for method, share in ends.items())
    return describe(figure, f"Agreement against training steps; at the end, of the way from the base to real pictures: {seen}.")


def convergence_steps(scores: pandas.DataFrame, methods: Sequence[str] = ("plain", "Diff-Tuning"), *, title: str = "") -> Figure:
    """The step of sudden convergence of each condition under two methods, every run a dot, the means joined by a bar.

    Columns kind, method, seed, sudden_convergence; runs that never converge are left out of the means and told in the description.
    """
    with theme():
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axis = figure.subplots()
    kinds, seen = list(scores.kind.unique()), []
    for height, kind in enumerate(kinds):
        steps = {method: scores[(scores.kind == kind) & (scores.method == method)].sudden_convergence for method in methods}
        axis.plot([each.mean() for each in steps.values()], [height, height], color="0.75", linewidth=4, zorder=1)
        for method, each in steps.items():
            axis.plot(each, np.full(len(each), height), marker="o", markersize=5, alpha=0.4, linestyle="none", color=COLOURS[method])
            axis.plot(each.mean(), height, marker="o", markersize=11, color=COLOURS[method], label=method if height == 0 else None)
        seen.append(f"{kind}: " + ", ".join(f"{method} {_after(each)}" for method, each in steps.items()))
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_ylim(len(kinds) - 0.5, -0.5)
    axis.set(xlabel="step of sudden convergence", title=title)
    axis.set_xlim(left=0)
    axis.legend(frameon=True, fontsize=10)
    return describe(figure, f"Steps of sudden convergence, means over seeds. {'; '.join(seen)}.")


def _half_way(axis: Axes) -> None:
    axis.axhline(THRESHOLD, color="0.5", linestyle="--", linewidth=1)
    axis.text(0, THRESHOLD + 0.02, "half of the way", fontsize=9, color="0.4")


def _after(steps: pandas.Series) -> str:
    never = f" ({int(steps.isna().sum())} of {len(steps)} runs never)" if steps.isna().any() else ""
    return "never" if steps.isna().all() else f"after {steps.mean():.0f} steps{never}"
