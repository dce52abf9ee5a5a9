"""Figures of lesson 03: who denoises unseen pictures how well, where the network leads, and the same in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle
from torch import Tensor

from ..figures import COLOURS, TASK, Figure, describe, picture_rows, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

DENOISERS = {  # name in the table: label, colour, line style, where the label stands (t, error)
    "ideal": ("ideal: whole pictures", "#882255", "-", (10, 0.6)),
    "patches": ("ideal: windows", "#B87700", "-", (10, 0.13)),
    "learned": ("learned", COLOURS["pre-trained"], "-", (330, 0.011)),
    "noisy": ("noisy picture, as it is", "0.4", ":", (120, 1.6)),
}
OTHERS = {  # name in `transfer.advantages`: label, colour, where the label stands (t, percent)
    "ideal": ("lead over the ideal denoiser", "#882255", (20, 104)),
    "linear": ("over the best linear rule", "#2A8C7E", (190, 27)),
    "noisy": ("over the noisy picture, as it is", "0.4", (570, 104)),
}
ERROR = "squared error of $x_0$\nper latent number"
TIMESTEP = "timestep t (0 = least noise)"


def compared_pictures(rows: Mapping[str, Tensor], title: str, *, outlined: Mapping[str, float] | None = None) -> Figure:
    """Rows of the same pictures, as they are in the first row and changed in the others; images (N, 3, H, W).

    `outlined`: the share of the width that a frame around the middle has, for the rows that get one.
    """
    figure = picture_rows(rows, title=title, columns=len(next(iter(rows.values()))))
    for axis, (name, images) in zip(figure.axes, rows.items()):
        count, _, _, size = images.shape
        inner = (outlined or {}).get(name, 0) * size
        for column in range(count if inner else 0):
            corner = (column * (size + 2) + 1 + (size - inner) / 2 - 0.5, 1 + (size - inner) / 2 - 0.5)
            axis.add_patch(Rectangle(corner, inner, inner, fill=False, edgecolor="#E69F00", linewidth=1.2))
    (first, clean), *others = rows.items()
    away = ", ".join(f"{name} {float((images - clean).square().mean()):.2f}" for name, images in others)
    return describe(figure, f"Rows of pictures, {title}. Mean squared distance from the row {first}: {away}.")


def error_curves(table: pandas.DataFrame, sets: Sequence[str], levels: Mapping[int, float]) -> Figure:
    """Error of each denoiser against t, a panel for each set of pictures; `levels` has the noise level at each t.

    `table` is a `transfer.with_best_patches`; the size of the windows stands below.  Left as it is, a noisy picture has the error level^2.
    """
    import pandas

    with theme():
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        axes = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    seen = []
    for axis, name in zip(axes, sets):
        rows = table[table.pictures == name]
        for denoiser, (label, colour, style, place) in DENOISERS.items():
            own = rows[rows.denoiser == denoiser].set_index("t").error.sort_index()
            if denoiser == "noisy":
                own = pandas.Series({t: level**2 for t, level in levels.items()})
            axis.plot(own.index, own, color=colour, linestyle=style, marker="" if style == ":" else "o", markersize=4)
            axis.text(*place, label, color=colour, fontsize=11)
            if denoiser != "noisy":
                seen.append(f"{name}, {label}: {own.iloc[0]:.2g} at t = {own.index[0]}, {own.iloc[-1]:.2g} at t = {own.index[-1]}")
        for t, size in rows.loc[(rows.denoiser == "patches") & ((rows.t % 100 == 0) | ~rows.t.between(20, 990)), ["t", "size"]].values:
            axis.text(t, 3.6e-5, f"{size}", color=DENOISERS["patches"][1], fontsize=9, ha="center")
        axis.text(110, 8e-5, "best window, cells wide:", color=DENOISERS["patches"][1], fontsize=9)
        axis.annotate("", (45, 0.0105), (80, 0.11), arrowprops={"arrowstyle": "->", "color": DENOISERS["patches"][1]})
        axis.set(xlabel=TIMESTEP, yscale="log", ylim=(2.5e-5, 3), xlim=(-20, 1025))
        axis.set_title(name, fontsize=13, pad=10)
        _noise_axis(axis, levels)
    axes[0].set_ylabel(ERROR)
    return describe(figure, f"Error against the timestep. {'; '.join(seen)}.")


def advantage_curves(table: pandas.DataFrame, levels: Mapping[int, float], title: str) -> Figure:
    """By how many percent the learned denoiser's error is lower than others', with 95 % intervals; `table` is a `transfer.advantages`."""
    figure, axis = _one_panel()
    seen = []
    for other, (label, colour, place) in OTHERS.items():
        own = 100 * table[table.other == other].set_index("t")[["advantage", "half_width"]]
        axis.plot(own.index, own.advantage, color=colour, marker="o", markersize=4)
        axis.fill_between(own.index, own.advantage - own.half_width, own.advantage + own.half_width, color=colour, alpha=0.2, linewidth=0)
        axis.text(*place, label, color=colour, fontsize=11)
        seen.append(f"{label}: {own.advantage.iloc[0]:.0f} % at t = {own.index[0]}, {own.advantage.max():.0f} % at most")
    axis.axhline(0, color="0.3", linewidth=1)
    axis.set(xlabel=TIMESTEP, ylabel="the learned denoiser's error\nis lower by, %", ylim=(-26, 115), title=title)
    _noise_axis(axis, levels)
    return describe(figure, f"How much lower the learned denoiser's error is, against the timestep. {'; '.join(seen)}.")


def ratio_curves(frame: pandas.DataFrame, labels: Mapping[Any, tuple[str, int, float]], ylabel: str, levels: Mapping[int, float]) -> Figure:
    """A curve for each labelled column of `frame` against t; its label, at which t it stands, and how many points above the curve.

    The column "noisy" is the noisy picture as it is, a dotted line that may leave the figure at the top.
    """
    figure, axis = _one_panel()
    seen = []
    for (column, (label, place, above)), colour in zip(labels.items(), (TASK, "#B8475A", "#2A8C7E")):
        axis.plot(frame.index, frame[column], color=colour, marker="o", markersize=4)
        _label(axis, frame[column], label, colour, place, above)
        seen.append(f"{label}: {frame[column].iloc[0]:.2f} at t = {frame.index[0]}, {frame[column].max():.2f} at most")
    _, colour, style, _ = DENOISERS["noisy"]
    axis.plot(frame.index, frame["noisy"], color=colour, linestyle=style)
    top = float(frame[list(labels)].max().max())
    low, high = 1 - 0.25 * (top - 1), 1 + 1.15 * (top - 1)
    axis.text(10, low + 0.93 * (high - low), "dotted: noisy picture, as it is", color=colour, fontsize=11)
    seen.append(f"noisy picture, as it is: {frame['noisy'].iloc[0]:.2f} at t = {frame.index[0]}")
    axis.axhline(1, color="0.3", linewidth=1)
    axis.set(xlabel=TIMESTEP, ylabel=ylabel, ylim=(low, high))
    _noise_axis(axis, levels)
    return describe(figure, f"Error as a multiple of that on the untouched picture, against the timestep. {'; '.join(seen)}.")


def plane(t: int, points: Mapping[str, Tensor], excess: float, level: float) -> Figure:
    """The answers of two ideal denoisers to the same noisy points; above them the noise level and the source's `excess` error.

    `points` has "source", clean points (M, 2), "noisy", and "by target" and "by source", the answers, each (N, 2).
    """
    with theme():
        figure = Figure(figsize=(5.6, 6.0), layout="constrained")
        axis = figure.subplots()
    axis.scatter(*points["source"].T.numpy(), s=3, color="0.82", linewidths=0)
    ours, theirs = points["by target"].numpy(), points["by source"].numpy()
    for own, other in zip(ours, theirs):
        axis.plot(*zip(own, other), color="0.6", linewidth=0.8, zorder=1)
    axis.scatter(*points["noisy"].T.numpy(), s=22, marker="+", color="0.45", linewidths=0.8, label="noisy point $x_t$")
    axis.scatter(*ours.T, s=60, color=TASK, linewidths=0, label="ideal denoiser of the target")
    axis.scatter(*theirs.T, s=36, color="#E69F00", linewidths=0, label="ideal denoiser of the source")
    reach = 1.08 * float(points["source"].abs().max())
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axis.set_title(f"noise level {level:.2g}: the source's excess error {100 * excess:.0f} %", fontsize=14)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=12, frameon=False, ncols=1)
    seen = f"the source's denoiser answers on average {float((points['by target'] - points['by source']).norm(dim=1).mean()):.2f} away"
    return describe(figure, f"Points in the plane at t = {t}: {seen} from the target's; excess error {100 * excess:.0f} %.")


def excess_curves(table: pandas.DataFrame, levels: Mapping[int, float]) -> Figure:
    """Excess error on the target before and after tuning: a thin line for each seed, a thick one for their geometric mean."""
    figure, axis = _one_panel()
    seen = []
    for method, place in {"pre-trained": (600, 200), "plain": (60, 330), "Diff-Tuning": (620, 1.3)}.items():
        runs = 100 * table[table.method == method].pivot(index="t", columns="seed", values="excess")
        middle = np.exp(np.log(runs).mean(axis=1))
        axis.plot(runs.index, runs, color=COLOURS[method], linewidth=0.8, alpha=0.35)
        axis.plot(middle.index, middle, color=COLOURS[method], linewidth=2.2, marker="o", markersize=4)
        axis.text(*place, method, color=COLOURS[method], fontsize=11)
        seen.append(f"{method} {middle.iloc[0]:.2g} % at t = {middle.index[0]}, {middle[600]:.3g} % at t = 600")
    axis.set(xlabel=TIMESTEP, ylabel="excess error on the target,\n% of the best error", yscale="log", ylim=(0.6, 600))
    axis.yaxis.set_major_formatter("{x:g}")
    _noise_axis(axis, levels, "noise level")
    return describe(figure, f"Excess error on the target against the timestep, means over seeds: {'; '.join(seen)}.")


def _label(axis: Axes, curve: pandas.Series, text: str, colour: str, place: int, above: float) -> None:
    """`text` from `place` on, `above` points higher than the curve (by t) is at the nearest t it has."""
    t = min(curve.index, key=lambda own: abs(own - place))
    axis.annotate(text, (place, curve[t]), (0, above), textcoords="offset points", color=colour, fontsize=11)


def _noise_axis(axis: Axes, levels: Mapping[int, float], label: str = "noise level (times the picture)") -> None:
    """A second axis on top: the noise level at some of the timesteps."""
    ticks = [t for t in (10, 200, 400, 600, 800) if t in levels]
    top = axis.secondary_xaxis("top")
    top.set_xticks(ticks, [f"{levels[t]:.2g}" for t in ticks], fontsize=9, color="0.35")
    top.set_xlabel(label, fontsize=9, color="0.35")
    top.tick_params(length=0, pad=1)


def _one_panel() -> tuple[Figure, Axes]:
    with theme():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        return figure, figure.subplots()
