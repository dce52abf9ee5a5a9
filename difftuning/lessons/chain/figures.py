"""Figures of lesson 02: denoising without training, replaced denoisers, the loss ratio as a map over training time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from ...evaluation.chain_of_forgetting import DATA_END
from ..figures import COLOURS, SOURCE, TASK, Figure, describe, draw_with_interval, theme

if TYPE_CHECKING:
    import pandas

MAP_LIMIT = 2  # doublings of the loss at which the map's colours end


def zero_shot_curves(table: pandas.DataFrame, task: str, source: str) -> Figure:
    """Error per pixel and distance to the set against t, of a task and of the held-out `source`; mean and interval over seeds."""
    with theme():
        figure = Figure(figsize=(9.2, 3.8), layout="constrained")
        axes = figure.subplots(1, 2)
    for axis, value, label in zip(axes, ("error", "kid"), ("squared error per pixel", "kernel distance to the set\n(our feature space)")):
        for name, colour in ((task, TASK), (source, SOURCE)):
            draw_with_interval(axis, table[table["set"] == name], "t", value, colour, name)
        axis.set(xlabel="noised up to timestep t", ylabel=label)
        low, high = table[value].min(), table[value].max()
        axis.set_ylim(min(0, low), 1.05 * high)
    axes[0].legend(fontsize=10)
    figure.suptitle(f"{task}: denoised by the untouched source model", fontsize=13)
    ends, seen = [table.t.min(), table.t.max()], []
    for name in (task, source):
        first, last = table[(table["set"] == name) & table.t.isin(ends)].groupby("t")[["error", "kid"]].mean().to_numpy()
        seen.append(f"{name}: error {first[0]:.3f} and {last[0]:.3f}, distance {first[1]:.2f} and {last[1]:.2f}")
    return describe(figure, f"After zero-shot denoising from t = {ends[0]} and {ends[1]}, {'; '.join(seen)}.")


def replacement_curves(table: pandas.DataFrame, task: str, live: pandas.DataFrame | None = None) -> Figure:
    """Score against the fraction of the last reverse steps that the source model takes over, by method.

    Both tables have the columns task, method, seed, by, fraction, fid; `live` is drawn as stars.  Dotted: the tuned
    model's own null label takes over, so that class and guidance are gone there, too, but nothing else.
    """
    with theme():
        figure = Figure(figsize=(9.2, 4.0), layout="constrained")
        axes = figure.subplots(1, 2)
    for axis, most in zip(axes, (DATA_END, 1.0)):
        for method in ("plain", "Diff-Tuning"):
            rows = table[(table.task == task) & (table.method == method) & (table.fraction <= most)]
            rows, colour = rows.assign(fraction=100 * rows.fraction), COLOURS[method]
            draw_with_interval(axis, rows[rows.by == "source"], "fraction", "fid", colour, method)
            if most < 1:
                draw_with_interval(axis, rows[rows.by != "source"], "fraction", "fid", colour, f"{method}, own null label", style=":")
            if live is not None and most == 1:
                own = live[live.method == method]
                axis.plot(
                    100 * own.fraction, own.fid, linestyle="none", marker="*", markersize=12, color=colour, markeredgecolor="white",
                    label=f"{method}, your run",
                )  # fmt: skip
        if most < 1:  # a few steps of training score on another scale than the full runs: they fit into the right panel alone
            full = table[(table.task == task) & (table.fraction <= most)].fid
            axis.set_ylim(0.9 * full.min(), 1.05 * full.max())
        axis.set(xlabel="last reverse steps taken over, %", ylabel="Frechet distance\nin our feature space")
        axis.set_xticks(sorted(set(100 * table.fraction[table.fraction <= most])) if most < 1 else range(0, 101, 20))
    axes[0].set_title("the data end alone", fontsize=12)
    axes[1].set_title("the whole chain, by the source model", fontsize=12)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=10)
    figure.suptitle(task, fontsize=13)
    seen = []
    for method in ("plain", "Diff-Tuning"):
        rows = table[(table.task == task) & (table.method == method) & (table.by == "source")]
        means = rows.groupby("fraction").fid.mean()
        low = means.idxmin()
        seen.append(f"{method} {means.iloc[0]:.2f} with none, lowest {means[low]:.2f} with {low:.0%}, {means.iloc[-1]:.1f} with all")
    return describe(
        figure, f"Frechet distance on {task} against the share of the last steps that the source model takes over: {'; '.join(seen)}."
    )


def forgetting_map(table: pandas.DataFrame, task: str, methods: Sequence[str] = ("plain", "Diff-Tuning")) -> Figure:
    """Loss after / before, by tenth of the chain and training steps; a row of panels for target and source, a column for each method.

    `table` has the columns task, method, seed, step, data, tenth, before, after.  Blue has learned, red has forgotten;
    beyond a factor of `2 ** MAP_LIMIT` colours do not change, so that all maps have one scale.
    """
    from matplotlib.colors import TwoSlopeNorm

    ratios, seen = table.assign(ratio=np.log2(table.after / table.before)), []
    with theme():
        figure = Figure(figsize=(1.4 + 3.5 * len(methods), 6.4), layout="constrained")
        axes = figure.subplots(2, len(methods), squeeze=False)
    for row, data in zip(axes, ("target", "source")):
        for axis, method in zip(row, methods):
            own = ratios[(ratios.task == task) & (ratios.method == method) & (ratios.data == data)]
            means = own.pivot_table(index="tenth", columns="step", values="ratio")
            image = axis.imshow(means, cmap="RdBu_r", norm=TwoSlopeNorm(0, -MAP_LIMIT, MAP_LIMIT), aspect="auto", origin="lower")
            for y, x in np.ndindex(means.shape):
                dark = abs(means.iloc[y, x]) > 0.6 * MAP_LIMIT
                axis.text(x, y, f"{2 ** means.iloc[y, x]:.2f}", ha="center", va="center", fontsize=9, color="white" if dark else "black")
            axis.grid(False)
            axis.set(xlabel="training steps", ylabel="tenth of the chain\n(1 = least noise)", title=f"{method}, on {data}")
            axis.set_xticks(range(means.shape[1]), [str(step) for step in means.columns])
            axis.set_yticks(range(means.shape[0]), [str(tenth) for tenth in means.index])
            ends = means.iloc[:, -1]
            seen.append(
                f"{method} on {data} {2 ** ends.iloc[0]:.2f} and {2 ** ends.iloc[-1]:.2f}, lowest {2 ** ends.min():.2f} in tenth {ends.idxmin()}"
            )
    ticks = range(-MAP_LIMIT, MAP_LIMIT + 1)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, label="loss after / before", extend="both")
    bar.set_ticks(ticks, labels=[f"{2.0**tick:g}" for tick in ticks])
    figure.suptitle(task, fontsize=13)
    last = ratios.step.max()
    return describe(
        figure, f"{task}, loss after over before in the first and last tenth of the chain after {last} steps: {'; '.join(seen)}."
    )
