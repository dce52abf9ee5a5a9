"""Figures of lesson 04: the weightings that are compared, what t means, and how long gradients are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..figures import COLOURS, Figure, describe, label_ends, theme
from ..filmstrip import Strip
from .dashboard import T_LABEL, TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = ("#1d2f6f", "#5f86c4", "#b3cbe6", "#e8e8e8")  # from "nothing is known" to "all is known"
BINS = ("less than 10 %", "10 to 50 %", "50 to 90 %", "more than 90 %")
SETS = {"target": "new pictures", "bank": "bank pictures"}
SHORT = {"target": "new pictures", "bank": "bank"}


def weightings_figure(weightings: Mapping[str, Mapping[str, Tensor | None]]) -> Figure:
    """A small panel for each method: the distributions (T,) that its "target" and "bank" pictures get their t from, None for no bank."""
    with theme():
        figure = Strip(figsize=(2.6 * len(weightings), 2.9), layout="constrained")
        axes = figure.subplots(1, len(weightings), sharey=True, squeeze=False)[0]
    for axis, (name, sides) in zip(axes, weightings.items()):
        axis.axhline(1, color=COLOURS["plain"], linestyle="--", linewidth=1.4)
        for role, distribution in sides.items():
            if distribution is not None:
                values = (distribution * len(distribution)).numpy()
                axis.plot(values, color=TERMS[role], linewidth=2.4)
                axis.fill_between(range(len(values)), values, color=TERMS[role], alpha=0.12, linewidth=0)
                _label_curve(axis, values, SHORT[role], TERMS[role])
        axis.set(xlim=(0, 1000), ylim=(0, 2.3), xlabel=T_LABEL, title=name)
        axis.title.set_fontsize(12)
        axis.set_xticks([0, 500, 1000])
    axes[0].set_ylabel("picked how often\n(1: as under plain fine-tuning)", fontsize=11)
    axes[0].text(25, 1.04, "plain", color=COLOURS["plain"], fontsize=11, va="bottom")
    return describe(
        figure, f"How often training picks each timestep for new and for bank pictures, method by method: {', '.join(weightings)}."
    )


def _label_curve(axis: Axes, values: np.ndarray, name: str, colour: str) -> None:
    """Beside a curve's high end, on its inner side; above a flat one."""
    rise = values[-1] - values[0]
    x, y, side = (980, 1.06, "right") if abs(rise) < 1e-6 else (850, 1.85, "right") if rise > 0 else (150, 1.85, "left")
    axis.text(x, y, name, color=colour, fontsize=11, ha=side, va="bottom")


def chain_figure(pictures: Mapping[str, Tensor], known: np.ndarray, rising: Tensor, count: int, title: str) -> Figure:
    """Rows of pictures (10, 3, H, W), one for each tenth of the chain, above the known share (T,).

    A dot stands for each of the `count` new pictures of a step, where the distribution `rising` (T,) puts it (see `spread`).
    """
    steps = len(known)
    with theme():
        figure = Strip(figsize=(7.8, 4.1))
        axis = figure.add_axes((0.16, 0.13, 0.81, 0.47))
    for row, (name, images) in enumerate(pictures.items()):
        strip = figure.add_axes((0.16, 0.82 - 0.18 * row, 0.81, 0.17))
        shown = images.clamp(-1, 1).permute(0, 2, 3, 1).numpy() / 2 + 0.5
        padded = np.pad(shown, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
        strip.imshow(np.concatenate(list(padded), axis=1), aspect="auto", interpolation="nearest")
        strip.set(xticks=[], yticks=[])
        strip.spines[:].set_visible(False)
        strip.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    half, places = int((known > 0.5).sum()), spread(rising, count)
    axis.fill_between(range(steps), 100 * known, color=SHADES[2], linewidth=0)
    axis.axvline(half, color=SHADES[0], linestyle="--", linewidth=1.4)
    to_the_left = half > steps / 2
    axis.text(half + (-10 if to_the_left else 10), 84, f"half is known at t = {half}", color=SHADES[0], fontsize=11,
              ha="right" if to_the_left else "left")  # fmt: skip
    axis.plot(places, [7] * count, color=TERMS["target"], marker="o", markersize=6, markeredgecolor="white", linestyle="none")
    where, side = (20, "left") if to_the_left else (steps - 20, "right")
    axis.text(where, 17, f"dots: the {count} new pictures of a step", color=SHADES[0], fontsize=11, ha=side)
    axis.set(xlim=(0, steps), ylim=(0, 104), xlabel=T_LABEL)
    axis.set_ylabel("known of the\npicture (%)", fontsize=11)
    axis.set_xticks(range(0, steps + 1, steps // 10))
    return describe(
        figure,
        f"{title}. One picture at ten noise levels, the model's guess of it below, and how much of a picture is known at each t: half of it "
        f"at t = {half}. Of {count} new pictures of a step {int((places > half).sum())} lie beyond.",
    )


def spread(distribution: Tensor, count: int) -> np.ndarray:
    """Where `count` picks of a distribution of t (T,) stand, each in the middle of its share: the quantiles at 1/2, 3/2, ... of `count`; (count,)."""
    return np.searchsorted(distribution.cumsum(0).numpy(), (np.arange(count) + 0.5) / count)


def picks_figure(picks: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for "target" and "bank"; a bar for each setting, cut by how much of the picture is known where t falls."""
    with theme():
        figure = Strip(figsize=(9.6, 1.7 + 0.5 * len(next(iter(picks.values())))), layout="constrained")
        axes = figure.subplots(1, len(picks), sharey=True, squeeze=False)[0]
    for axis, (role, settings) in zip(axes, picks.items()):
        for place, parts in enumerate(settings.values()):
            left = 0.0
            for colour, part in zip(SHADES, parts):
                axis.barh(place, 100 * part, left=left, height=0.62, color=colour, edgecolor="white")
                if part > 0.07:
                    dark = colour in SHADES[:2]
                    axis.text(
                        left + 50 * part,
                        place,
                        f"{100 * part:.0f} %",
                        ha="center",
                        va="center",
                        color="white" if dark else "0.2",
                        fontsize=11,
                    )
                left += 100 * part
        axis.set(xlim=(0, 100), title=SETS[role], xlabel="share of the pictures (%)")
        axis.set_yticks(range(len(settings)), list(settings), fontsize=11)
        axis.grid(False)
    axes[0].invert_yaxis()
    handles = [axes[0].barh(0, 0, color=colour, label=name) for colour, name in zip(SHADES, BINS)]
    figure.legend(
        handles=handles,
        title="known of the picture at that t (the two darker shares: right of the dashed line)",
        loc="outside lower center",
        ncols=4,
        fontsize=10,
        frameon=False,
    )
    found = (
        f"{SETS[role]}, {name}: " + ", ".join(f"{100 * part:.0f} % where {words} is known" for part, words in zip(parts, BINS))
        for role, settings in picks.items()
        for name, parts in settings.items()
    )
    return describe(figure, f"Where the picked timesteps fall, by how much of the picture is known. {'; '.join(found)}.")


def length_curves(timesteps: Tensor, squares: Mapping[str, Tensor]) -> Figure:
    """Squared length of single pictures' gradients against t, mean and 95 % interval per tenth; `squares` has (10, n) by term."""
    from scipy.stats import t

    with theme():
        figure = Strip(figsize=(7.2, 3.6), layout="constrained")
        axis: Axes = figure.subplots()
    for shift, (name, values) in zip((-9, 9), squares.items()):
        count = values.shape[1]
        mean, half = values.mean(1), float(t.ppf(0.975, count - 1)) * values.std(1) / count**0.5
        low = torch.minimum(half, 0.95 * mean)  # an interval that reaches 0 has no place on a log axis
        axis.errorbar(timesteps + shift, mean, torch.stack([low, half]), color=TERMS[name], marker="o", capsize=3)
    axis.set(xlabel=T_LABEL, ylabel="mean square of one\npicture's gradient (log scale)", yscale="log")
    label_ends(axis, [(float(values[-1].mean()), SETS[name], TERMS[name]) for name, values in squares.items()])
    falls = ", ".join(f"{float(values[0].mean() / values[-1].mean()):.2g} times for the {name}" for name, values in squares.items())
    return describe(
        figure,
        "Squared length of single pictures' gradients against the timestep, target and bank. "
        f"In the first tenth it is longer than in the last: {falls}.",
    )
