"""Figures of lesson 03: the noise of gradients, of a toy and of the network."""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from torch import Tensor

from ..figures import Figure, describe, theme
from .dashboard import NAMES, T_LABEL, TERMS


def toy_curves(spreads: Sequence[float], squares: Tensor, ratios: Mapping[str, Tensor], shown: float) -> Figure:
    """Left: the toy's m_t (K, T) at one of K spreads of the data.  Right: each term's variance ratio (K,) against the spread."""
    figure, (left, right) = _two_panels()
    index = list(spreads).index(shown)
    left.plot(squares[index].numpy(), color="#0072B2", linewidth=2)
    left.set(xlabel=T_LABEL, ylabel="mean square of a gradient, m(t)", yscale="log", title=f"spread of the data {shown:g}")
    left.set_ylim(float(squares.min()) / 1.5, float(squares.max()) * 1.5)
    for name, values in ratios.items():
        right.plot(spreads, values, color=TERMS[name], linewidth=2, label=NAMES[name])
        right.plot([shown], [values[index]], color=TERMS[name], marker="o", markersize=9, zorder=3)
    right.axvline(shown, color="0.6", linestyle=":", linewidth=1.5)
    _ratio_axis(right, "spread of the data")
    right.set(xscale="log")
    right.set_xticks(list(spreads), [f"{value:g}" for value in spreads])  # all of them, the shown one included
    right.tick_params(axis="x", labelsize=10)
    right.minorticks_off()
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    found = ", ".join(f"{values[index]:.2f} times for the {name}" for name, values in ratios.items())
    first, last = squares[index, [0, -1]].tolist()
    return describe(
        figure,
        f"Left: the toy's mean squared gradient m(t), which goes from {first:.3g} at t = 0 to {last:.3g} at the last timestep. Right: "
        f"variance of weighting over that of sampling against the spread of the data; at {shown:g} it is {found}.",
    )


def length_curves(timesteps: Tensor, squares: Mapping[str, Tensor]) -> Figure:
    """Squared length of single pictures' gradients against t, mean and 95 % interval per tenth; `squares` has (10, n) by term."""
    from scipy.stats import t

    with theme():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axis = figure.subplots()
    for shift, (name, values) in zip((-9, 9), squares.items()):
        count = values.shape[1]
        mean, half = values.mean(1), float(t.ppf(0.975, count - 1)) * values.std(1) / count**0.5
        low = torch.minimum(half, 0.95 * mean)  # an interval that reaches 0 has no place on a log axis
        axis.errorbar(timesteps + shift, mean, torch.stack([low, half]), color=TERMS[name], marker="o", capsize=3, label=NAMES[name])
    axis.set(xlabel=T_LABEL + " (0 = lowest noise)", ylabel="mean squared length of\none picture's gradient, m(t)", yscale="log")
    axis.legend(fontsize=10, title=f"mean and 95 % interval of {count} pictures")
    falls = ", ".join(f"{float(values[0].mean() / values[-1].mean()):.2g} times for the {name}" for name, values in squares.items())
    return describe(
        figure,
        "Squared length of single pictures' gradients against the timestep, target and bank. "
        f"In the first tenth it is longer than in the last: {falls}.",
    )


def variance_ratios(powers: Sequence[float], predicted: Mapping[str, Sequence[float]], power: float,
                    measured: Mapping[str, tuple[float, float, float]]) -> Figure:  # fmt: skip
    """Variance of weighting over sampling against the law's power, predicted; what was measured at `power` with its interval."""
    with theme():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axis = figure.subplots()
    for shift, (name, ratios) in zip((-0.015, 0.015), predicted.items()):
        axis.plot(powers, ratios, color=TERMS[name], linewidth=2, label=f"{NAMES[name]}, predicted")
        middle, low, high = measured[name]
        label = f"{NAMES[name]}, measured"
        axis.errorbar(
            [power + shift],
            [middle],
            [[middle - low], [high - middle]],
            color=TERMS[name],
            marker="o",
            markersize=9,
            capsize=5,
            label=label,
        )
    _ratio_axis(axis, "power of the law (tau)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    found = ", ".join(f"{middle:.2f} ({low:.2f} to {high:.2f}) for the {name}" for name, (middle, low, high) in measured.items())
    ends = ", ".join(f"{ratios[0]:.2f} to {ratios[-1]:.2f} for the {name}" for name, ratios in predicted.items())
    return describe(
        figure,
        "Variance of weighting over that of sampling against the power of the law. "
        f"Predicted lines, from the first power to the last: {ends}. Measured at {power:g}: {found}.",
    )


def _ratio_axis(axis, label: str) -> None:
    axis.axhline(1, color="0.4", linewidth=1)
    axis.set(xlabel=label, ylabel="variance of weighting\nover that of sampling", yscale="log", ylim=(0.25, 4))  # halves as far as doubles
    axis.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axis.minorticks_off()
    for place, words in ((0.97, "sampling is calmer"), (0.03, "weighting is calmer")):
        axis.text(0.03, place, words, transform=axis.transAxes, va="top" if place > 0.5 else "bottom", fontsize=10, color="0.35")


def _two_panels() -> tuple[Figure, object]:
    with theme():
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        return figure, figure.subplots(1, 2)
