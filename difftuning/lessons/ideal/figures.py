"""Figures of lesson 03: who denoises unseen and changed pictures how well, and the same in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..figures import COLOURS, TASK, Figure, describe, picture_rows, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

DENOISERS = {  # name in the table: label, colour, line style, where the label stands (t, error)
    "ideal": ("ideal: whole pictures", "#882255", "-", (10, 0.6)),
    "patches of 3": ("3 × 3 windows", "#B87700", "--", (10, 0.19)),
    "patches": ("best window", "#B87700", "-", (10, 0.055)),
    "learned": ("network", COLOURS["pre-trained"], "-", (330, 0.011)),
    "noisy": ("noisy picture, as it is", "0.4", ":", (120, 1.6)),
}
OTHERS = {  # name in `transfer.advantages`: label, colour, where the label stands (t, percent)
    "ideal": ("lead over the ideal denoiser", "#882255", (20, 104)),
    "linear": ("over the best linear rule", "#2A8C7E", (190, 27)),
    "noisy": ("over the noisy picture, as it is", "0.4", (570, 104)),
}
TITLES = {"source, held out": "unseen pictures of the source"}
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}  # behind a label that a line would cross
CHANGES = (TASK, "#B8475A", "#2A8C7E")  # of what the network was given
ERROR = "squared error of $x_0$\nper latent number"
TIMESTEP = "timestep t (0 = least noise)"


def compared_pictures(rows: Mapping[str, Tensor], title: str) -> Figure:
    """Rows of the same pictures, as they are in the first row and denoised in the others; images (N, 3, H, W)."""
    figure = picture_rows(rows, title=title, columns=len(next(iter(rows.values()))))
    (first, clean), *others = rows.items()
    away = ", ".join(f"{name} {float((images - clean).square().mean()):.2f}" for name, images in others)
    return describe(figure, f"Rows of pictures, {title}. Mean squared distance from the row {first}: {away}.")


def error_curves(table: pandas.DataFrame, sets: Sequence[str], levels: Tensor) -> Figure:
    """Error of each denoiser against t, a panel for each set of pictures; `levels` has the noise level of every t.

    `table` is a `transfer.with_best_patches`; the size of the best windows stands below.  Left as it is, a noisy picture has the error level^2.
    """
    with theme():
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        axes = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    seen = []
    for axis, name in zip(axes, sets):
        rows = table[table.pictures == name]
        times = sorted(set(rows.t))
        for denoiser, (label, colour, style, place) in DENOISERS.items():
            if denoiser == "noisy":
                axis.plot(times, levels[times] ** 2, color=colour, linestyle=style)
            else:
                own = rows[rows.denoiser == denoiser].set_index("t").error.sort_index()
                axis.plot(own.index, own, color=colour, linestyle=style, marker="o" if style == "-" else "", markersize=4)
                seen.append(f"{name}, {label}: {own.iloc[0]:.2g} at t = {own.index[0]}, {own.iloc[-1]:.2g} at t = {own.index[-1]}")
            axis.text(*place, label, color=colour, fontsize=11)
        for t, size in rows.loc[(rows.denoiser == "patches") & ((rows.t % 100 == 0) | (rows.t == 10)), ["t", "size"]].values:
            axis.text(t, 3.6e-5, f"{size}", color=DENOISERS["patches"][1], fontsize=9, ha="center")
        axis.text(110, 8e-5, "best window, cells wide:", color=DENOISERS["patches"][1], fontsize=9)
        axis.set(xlabel=TIMESTEP, yscale="log", ylim=(2.5e-5, 3), xlim=(-20, 1025))
        axis.set_title(TITLES.get(name, f"unseen {name}"), fontsize=13, pad=10)
        _noise_axis(axis, levels)
    axes[0].set_ylabel(ERROR)
    return describe(figure, f"Error against the timestep. {'; '.join(seen)}.")


def set_curves(frame: pandas.DataFrame, levels: Tensor) -> Figure:
    """Errors against t of the network, the network that is given the label, and the ideal denoisers of the source and of the task."""
    figure, axis = _one_panel()
    seen = []
    looks = ((COLOURS["pre-trained"], "-", None), (COLOURS["pre-trained"], "--", None), ("#882255", "-", 0.02), (TASK, "-", -0.05))
    for column, (colour, style, above) in zip(frame, looks):
        curve = frame[column]
        axis.plot(curve.index, curve, color=colour, linestyle=style, marker="o", markersize=4)
        if above is not None:
            axis.text(10, curve.iloc[0] + above, column, color=colour, fontsize=11)
        seen.append(f"{column}: {curve.iloc[0]:.2g} at t = {curve.index[0]}, {curve.iloc[-1]:.2g} at t = {curve.index[-1]}")
    axis.text(590, 0.13, frame.columns[0], fontsize=11)
    axis.text(590, 0.03, f"dashed: {frame.columns[1]}".replace(' "', '\n"'), fontsize=11)
    axis.set(xlabel=TIMESTEP, ylabel=ERROR, ylim=(0, None))
    _noise_axis(axis, levels)
    return describe(figure, f"Error against the timestep. {'; '.join(seen)}.")


def advantage_curves(table: pandas.DataFrame, levels: Tensor, title: str) -> Figure:
    """By how many percent the network's error is lower than others', with 95 % intervals; `table` is a `transfer.advantages`."""
    figure, axis = _one_panel()
    seen = []
    for other, (label, colour, place) in OTHERS.items():
        own = 100 * table[table.other == other].set_index("t")[["advantage", "half_width"]]
        axis.plot(own.index, own.advantage, color=colour, marker="o", markersize=4)
        axis.fill_between(own.index, own.advantage - own.half_width, own.advantage + own.half_width, color=colour, alpha=0.2, linewidth=0)
        axis.text(*place, label, color=colour, fontsize=11)
        seen.append(f"{label}: {own.advantage.iloc[0]:.0f} % at t = {own.index[0]}, {own.advantage.max():.0f} % at most")
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set(xlabel=TIMESTEP, ylabel="the network's error\nis lower by, %", ylim=(-26, 115), title=title)
    _noise_axis(axis, levels)
    return describe(figure, f"How much lower the network's error is, against the timestep. {'; '.join(seen)}.")


def share_curves(frames: Mapping[str, pandas.DataFrame], levels: Tensor) -> Figure:
    """The share of the lead over doing nothing that is left, 1 for all of it: a panel for each frame, a curve for each column against t.

    Below 0 is harm; curves may leave the figure at the bottom.
    """
    with theme():
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        axes = figure.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    low = max(-110, 100 * min(float(frame.min(axis=None)) for frame in frames.values()) - 10)
    seen = []
    for axis, (title, frame) in zip(axes, frames.items()):
        axis.axhspan(low, 0, color="#B8475A", alpha=0.09, linewidth=0)
        axis.axhline(0, color="0.3", linewidth=1)
        axis.axhline(100, color="0.3", linewidth=1)
        axis.text(615, low + 5, "worse than doing nothing", color="0.35", fontsize=10, ha="right")
        for column, colour in zip(frame, CHANGES):
            curve = 100 * frame[column]
            axis.plot(curve.index, curve, color=colour, marker="o", markersize=4)
            at = curve.index[len(curve) // 2]
            axis.annotate(column, (at, curve[at]), (12, -14), textcoords="offset points", color=colour, fontsize=11, bbox=PAPER)
            seen.append(
                f"{title}, {column}: {curve.iloc[0]:.0f} % at t = {curve.index[0]}, {curve.iloc[-1]:.0f} % at t = {curve.index[-1]}"
            )
        axis.set(xlabel=TIMESTEP, ylim=(low, 115), xlim=(-15, 630))
        axis.set_title(title, fontsize=13, pad=10)
        _noise_axis(axis, levels)
    axes[0].set_ylabel("share of the lead\nthat is left, %")
    return describe(figure, f"Share of the network's lead over doing nothing, against the timestep. {'; '.join(seen)}.")


def plane(points: Mapping[str, Tensor], t: int, excess: float, levels: Tensor) -> Figure:
    """The answers of two ideal denoisers to the same noisy points; above them the source's `excess` error.

    `points` has "source" and "target", clean points (M, 2), "noisy", and "by target" and "by source", the answers, each (N, 2).
    """
    with theme():
        figure = Figure(figsize=(4.4, 5.3), layout="constrained")
        axis = figure.subplots()
    reach = 1.08 * float(points["source"].abs().max())
    axis.scatter(*points["source"].T.numpy(), s=3, color="0.82", linewidths=0)
    axis.scatter(*points["target"].T.numpy(), s=3, color="#88CCEE", linewidths=0)
    for ours, theirs in zip(points["by target"].numpy(), points["by source"].numpy()):
        axis.plot(*zip(ours, theirs), color="0.6", linewidth=0.8, zorder=1)
    axis.scatter(*points["noisy"].T.numpy(), s=22, marker="+", color="0.45", linewidths=0.8, label="noisy point $x_t$")
    axis.scatter(*points["by target"].T.numpy(), s=14, color=TASK, linewidths=0, label="answer of the target's ideal denoiser")
    axis.scatter(*points["by source"].T.numpy(), s=48, facecolors="none", edgecolors="#D97700", linewidths=1.2,
                 label="answer of the source's ideal denoiser")  # fmt: skip
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axis.set_title(f"noise level {levels[t]:.2g}, excess error {100 * excess:.0f} %", fontsize=12)
    figure.legend(loc="outside lower center", fontsize=11, frameon=False, labelcolor="linecolor")
    away = float((points["by target"] - points["by source"]).norm(dim=1).mean())
    return describe(
        figure,
        f"Points in the plane: at t = {t} the source's denoiser answers on average {away:.2f} away from the target's, "
        f"excess error {100 * excess:.0f} %.",
    )


def excess_curves(table: pandas.DataFrame, levels: Tensor) -> Figure:
    """Left: excess error on the target before and after tuning, geometric means over seeds; right: Diff-Tuning's over plain's, for each seed."""
    with theme():
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
    runs = {method: 100 * rows.pivot(index="t", columns="seed", values="excess") for method, rows in table.groupby("method")}
    seen = []
    for method, place in {"pre-trained": (560, 200), "plain": (60, 170), "Diff-Tuning": (560, 2.2)}.items():
        middle = np.exp(np.log(runs[method]).mean(axis=1))
        left.plot(middle.index, middle, color=COLOURS[method], linewidth=2.2, marker="o", markersize=4)
        left.text(*place, method, color=COLOURS[method], fontsize=11)
        seen.append(f"{method} {middle.iloc[0]:.2g} % at t = {middle.index[0]}, {middle[600]:.3g} % at t = 600")
    left.set(ylabel="excess error on the target,\n% of the best error", yscale="log", ylim=(0.6, 400))
    ratio = runs["Diff-Tuning"] / runs["plain"]
    right.plot(ratio.index, ratio, color=COLOURS["Diff-Tuning"], linewidth=1.2, marker="o", markersize=3)
    right.axhline(1, color=COLOURS["plain"], linewidth=2)
    right.text(15, 1.08, "plain", color=COLOURS["plain"], fontsize=11)
    right.set(ylabel="Diff-Tuning's, times that of plain;\na line for each run", yscale="log", ylim=(0.04, 3))
    for axis in (left, right):
        axis.set_xlabel(TIMESTEP)
        axis.yaxis.set_major_formatter("{x:g}")
        _noise_axis(axis, levels)
    seen.append(f"Diff-Tuning's over plain's at t = {ratio.index[0]}: {ratio.iloc[0].min():.2g} to {ratio.iloc[0].max():.2g}")
    return describe(figure, f"Excess error on the target against the timestep, means over seeds: {'; '.join(seen)}.")


def _noise_axis(axis: Axes, levels: Tensor) -> None:
    """A second axis on top: where the noise level is a power of ten."""
    marks = torch.tensor([0.01, 0.1, 1, 10], dtype=levels.dtype)
    top = axis.secondary_xaxis("top")
    top.set_xticks(torch.searchsorted(levels, marks).tolist(), [f"{mark:g}" for mark in marks.tolist()], fontsize=9, color="0.35")
    top.set_xlabel("noise level (times the picture)", fontsize=9, color="0.35")
    top.tick_params(length=3, pad=1, color="0.35")


def _one_panel() -> tuple[Figure, Axes]:
    with theme():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        return figure, figure.subplots()
