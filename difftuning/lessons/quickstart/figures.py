"""Figures of lesson 00: pictures finished from several timesteps, samples beside their nearest training pictures, losses, gains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
from torch import Tensor

from ...evaluation.metrics import nearest_training
from ...studies.gains import verdict
from ..explorers import Frames, precompute
from ..figures import COLOURS, Figure, describe, picture_rows, theme
from ..seeds import seeds_note

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

Finished = Mapping[str, Mapping[int, Tensor]]  # of each model (and "noised"), by timestep: pictures (N, 3, H, W)
METHOD = {"before": "pre-trained", "plain": "plain", "Diff-Tuning": "Diff-Tuning"}  # row -> whose colour
PANELS = {"target": "learned: held-out pictures of the task", "source": "forgotten: held-out pictures of the source"}


def from_pure_noise(images: Mapping[str, Tensor], names: Sequence[str], counted: Mapping[str, Sequence[bool]]) -> Figure:
    """A row of source pictures for each model, asked for by `names`, all from the same noise; the `counted` ones have a frame."""
    figure = picture_rows(images, columns=len(names), heads=names)
    for axis, marked in zip(figure.axes, counted.values()):
        _frame(axis, marked, len(names))
    framed = ", ".join(f"{name} {sum(marked)}" for name, marked in counted.items())
    return describe(
        figure, f"From the same pure noise, asked for {', '.join(names)}: a row each for {', '.join(images)}. Framed: {framed}."
    )


def garments_curve(counts: Mapping[str, Mapping[int, int]], of: int) -> Figure:
    """How many of `of` T-shirts look like garments, by model and timestep at which the model takes over."""
    with theme():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axis = figure.subplots()
    timesteps = list(next(iter(counts.values())))
    for method, by_t in counts.items():
        axis.plot(range(len(timesteps)), [by_t[t] for t in timesteps], color=COLOURS[METHOD[method]], marker="o", linewidth=2)
        axis.annotate(method, (len(timesteps) - 1, by_t[timesteps[-1]]), xytext=(8, 0), textcoords="offset points", va="center", fontsize=11,
                      color=COLOURS[METHOD[method]], annotation_clip=False)  # fmt: skip
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_xticks(range(len(timesteps)), ["pure noise" if t >= 1000 else str(t) for t in timesteps])
    axis.set(
        xlabel="the model takes over at t =", ylabel=f"garments, of {of}", ylim=(-0.04 * of, 1.04 * of), xlim=(-0.2, len(timesteps) + 0.1)
    )
    seen = "; ".join(f"{method} {', '.join(str(by_t[t]) for t in timesteps)}" for method, by_t in counts.items())
    return describe(
        figure, f"Of {of} T-shirts so many look like garments, by the timestep at which the model takes over ({timesteps}): {seen}."
    )


def chain_explorer(originals: Tensor, finished: Finished, names: Sequence[str]) -> Frames:
    """Frames for a slider over t: the pictures (N, 3, H, W), noised, and as each model finishes them."""

    def draw(t: int) -> Figure:
        figure = picture_rows({"original": originals} | {row: by_t[t] for row, by_t in finished.items()}, columns=len(names), heads=names)
        figure.set_figwidth(0.62 * len(names) + 1.3)
        told = f"Pictures of the source noised up to t = {t}, and finished from there: a row each for {', '.join(finished)}."
        return describe(figure, told)

    return precompute(draw, t=list(next(iter(finished.values()))))


def samples_and_nearest(samples: Mapping[str, Tensor], training: Tensor, names: Sequence[str]) -> Figure:
    """Below each row of samples (N, 3, H, W) the nearest training pictures; a frame marks a copy."""
    columns = len(names)
    rows, copies = {}, {}
    for name, images in samples.items():
        places, copied = nearest_training(images[:columns], training)
        rows |= {name: images[:columns], f"nearest{' ' * len(copies)}": training[places]}  # keys must differ
        copies[name] = copied
    figure = picture_rows(rows, columns=columns, heads=names)
    for axis, copied in zip(figure.axes[::2], copies.values()):
        _frame(axis, copied.tolist(), columns)
    told = "; ".join(f"{name}: {int(copied.sum())} of {len(copied)} are copies" for name, copied in copies.items())
    return describe(figure, f"Samples of the new task, each row above the nearest training pictures. {told}.")


def _frame(axis: Axes, marked: Sequence[bool], columns: int) -> None:
    """A frame around the marked pictures of a row and around those below them."""
    from matplotlib.patches import Rectangle

    height, width = axis.images[0].get_array().shape[:2]
    side = width / columns
    for place in np.flatnonzero(marked):
        axis.add_patch(Rectangle((place * side - 0.5, -0.5), side, height, fill=False, edgecolor="#E69F00", linewidth=3, clip_on=False))


def learned_and_forgotten(ratios: pandas.DataFrame) -> Figure:
    """Loss after / before by tenth of the chain, on held-out target and source pictures; columns method, data, tenth, ratio."""
    with theme():
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
    seen = []
    for axis, (data, title) in zip(axes, PANELS.items()):
        axis.axhline(1, color="0.4", linewidth=1)
        for method in ("plain", "Diff-Tuning"):
            own = ratios[(ratios.method == method) & (ratios.data == data)].sort_values("tenth")
            axis.plot(own.tenth, own.ratio, color=COLOURS[method], marker="o", markersize=4, linewidth=2)
            seen.append(f"{method} on {data} {own.ratio.iloc[0]:.2f} in tenth 1 and {own.ratio.iloc[-1]:.2f} in tenth 10")
        axis.set(title=title, xlabel="tenth of the chain (1: least noise)", xticks=range(1, 11))
    axes[0].set_ylabel("loss after / before tuning")
    axes[0].text(10, 1.01, "as before", color="0.4", fontsize=10, ha="right", va="bottom")
    for method, place, side in (("plain fine-tuning", (0.04, 0.93), "left"), ("Diff-Tuning", (0.96, 0.3), "right")):
        colour = COLOURS[method.removesuffix(" fine-tuning")]
        axes[1].text(*place, method, color=colour, fontsize=12, ha=side, va="top", transform=axes[1].transAxes)
    return describe(figure, f"Loss after over before tuning: {'; '.join(seen)}.")


def gains_figure(gains: pandas.DataFrame) -> Figure:
    """Gain over plain fine-tuning in %, with 95 % intervals: a row for each training set, a panel for each protocol."""
    with theme():
        figure = Figure(figsize=(9.2, 0.55 * gains.set.nunique() + 1.7), layout="constrained")
        axes = figure.subplots(1, gains.protocol.nunique(), sharex=True, sharey=True, squeeze=False)[0]
    sets, seen = list(gains.set.unique())[::-1], []
    for axis, (protocol, rows) in zip(axes, gains.groupby("protocol", sort=False)):
        axis.axvline(0, color=COLOURS["plain"], linewidth=2)
        for _, row in rows.iterrows():
            gain, height = row.gain, sets.index(row.set)
            if not gain.seeds:
                continue
            beside = [[100 * (gain.lower - gain.ends[0])], [100 * (gain.ends[1] - gain.lower)]] if gain.has_interval else None
            axis.errorbar(
                100 * gain.lower, height, xerr=beside, color=COLOURS["Diff-Tuning"], marker="o",
                markersize=8, markerfacecolor=COLOURS["Diff-Tuning"] if gain.has_interval else "white", capsize=4, linewidth=2,
            )  # fmt: skip
            seen.append(f"{row.set}, {protocol}: {gain.percent} ({verdict(gain)})")
        axis.set(title=protocol, yticks=range(len(sets)))
        axis.set_yticklabels(sets)
        axis.set_ylim(-0.6, len(sets) - 0.2)
        axis.margins(x=0.15)
        axis.text(0, len(sets) - 0.32, " Diff-Tuning is better →", color="0.4", fontsize=9, va="center")
    note = seeds_note(gain.seeds for gain in gains.gain if gain.seeds)
    figure.supxlabel(f"Frechet distance, lower than after plain fine-tuning by … % ({note})", fontsize=12)
    return describe(figure, f"Gain of Diff-Tuning over plain fine-tuning: {'; '.join(seen)}.")
