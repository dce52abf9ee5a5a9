"""Figures of lesson 03: one setting of the timestep weights at a glance, and the noise of its gradients."""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.artist import Artist
from torch import Tensor

from ..diffusion import Diffusion
from .explorers import Moving
from .plots import COLOURS, Figure, describe, theme
from .weights import Balance, balance, eps_multiplier

TERMS = {"target": COLOURS["reconsolidation only"], "bank": COLOURS["retention only"]}
NAMES = {"target": "reconsolidation (target)", "bank": "retention (bank)"}
SCHEMES = {"p2": ("P2, mean 1", "#E69F00", ":"), "min_snr": ("Min-SNR, mean 1", "0.35", "-.")}
PARAMETER = {"official": "tau", "paper": "tau", "threshold": "threshold", "sigmoid": "threshold"}
WIDTH = 0.4  # of a bar, in tenths of the chain
LEAST_WEIGHT = 0.01  # lower end of the log axis
T_LABEL = "timestep t"


class Dashboard:
    """Six panels about one setting; `update` moves them to another one, and all settings share the axes' limits."""

    def __init__(self, diffusion: Diffusion, *, batch_size: int = 32, most_weight: float, most_pictures: float):
        self.diffusion, self.batch_size = diffusion, batch_size
        self.moving: list[Artist] = []
        with theme():
            self.figure = Figure(figsize=(10.6, 6.4))
            self.axes = self.figure.subplots(2, 3)
        self.figure.set_layout_engine("constrained")
        self.lines = {kind: self._lines(axis) for kind, axis in zip(("stated", "law", "weight"), self.axes[0])}
        (self.share,) = self._move(self.axes[1, 1].plot([], [], color="#0072B2", linewidth=2))
        self.crossing = self._move(
            axis.axvline(0, color="0.25", linestyle="--", linewidth=1.2) for axis in (self.axes[0, 2], self.axes[1, 1])
        )
        self.pictures = {name: self._bars(row, name, pale=True) for row, name in enumerate(TERMS)}
        self.worth = {name: self._bars(row, name, pale=False) for row, name in enumerate(TERMS)}
        self.amount = {name: self._amount(row, name) for row, name in enumerate(TERMS)}
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
        corner = self.axes[1, 1].text(0.97, 0.94, "", transform=self.axes[1, 1].transAxes, ha="right", va="top", fontsize=11, bbox=box)
        self.says = self._move([corner])[0]  # few letters: they take longer to draw than all the lines
        self._label(most_weight, most_pictures)

    def update(self, *, family: str, parameter: float, **options: object) -> Balance:
        """Move everything to a setting, named as in `balance`, and return what it amounts to."""
        found = balance(self.diffusion, family=family, parameter=parameter, batch_size=self.batch_size, **options)
        for name, side in (("target", found.target), ("bank", found.bank)):
            law = None if side.law is None else side.law * len(side.law)
            for kind, values in (("stated", side.stated), ("law", law), ("weight", side.weight)):
                self.lines[kind][name].set_data(*([[], []] if values is None else [np.arange(len(values)), values.numpy()]))
            for bars, heights in ((self.pictures[name], side.pictures), (self.worth[name], side.effective_tenths)):
                for bar, height in zip(bars, heights.tolist()):
                    bar.set_height(height)
            pictures, worth = self.amount[name]
            pictures.set_width(float(side.pictures.sum()))
            worth.set_width(side.effective)
        share = 100 * found.retention_share.numpy()
        self.share.set_data(np.arange(len(share)), share)
        for line in self.crossing:
            line.set_xdata([found.crossing, found.crossing])
        self.says.set_text(_where(found.crossing, self.diffusion.num_timesteps))
        return found

    def _move(self, artists: Iterable[Artist]) -> list[Artist]:
        artists = list(artists)
        for artist in artists:
            artist.set_in_layout(False)  # the layout must not depend on what moves
        self.moving += artists
        return artists

    def _lines(self, axis) -> dict[str, Artist]:
        styles = {"target": "-", "bank": (0, (6, 1.5))}  # dashed, so that neither hides the other
        return {
            name: self._move(axis.plot([], [], color=colour, linewidth=2.2, linestyle=styles[name]))[0] for name, colour in TERMS.items()
        }

    def _bars(self, row: int, name: str, *, pale: bool) -> Sequence[Artist]:
        """A bar on each tenth, the target's left of its tick and the bank's right of it; what pictures are worth is the slimmer one."""
        width = WIDTH if pale else WIDTH / 2
        places = np.arange(10) + WIDTH * (row - 0.5)
        bars = self.axes[1, 0].bar(places, np.zeros(10), width=width, color=TERMS[name], alpha=0.3 if pale else 1, linewidth=0)
        return self._move(bars)

    def _amount(self, row: int, name: str) -> tuple[Artist, Artist]:
        axis = self.axes[1, 2]
        pictures = axis.barh(row, 0, height=0.62, color=TERMS[name], alpha=0.3, linewidth=0)
        worth = axis.barh(row, 0, height=0.3, color=TERMS[name], linewidth=0)
        return tuple(self._move([*pictures, *worth]))

    def _label(self, most_weight: float, most_pictures: float) -> None:
        steps, last = self.diffusion.num_timesteps, self.axes[0, 2]
        titles = ("weights as the family\nstates them", "where t is drawn", "equivalent loss weight\nif t were uniform")
        for axis, title, words in zip(self.axes[0], titles, ("weight", "times uniform", "weight (log scale)")):
            axis.set(xlim=(0, steps), ylim=(0, most_weight), xlabel=T_LABEL, ylabel=words, title=title)
        last.set(yscale="log", ylim=(LEAST_WEIGHT, 1.5 * most_weight))  # so that a crossing at a low weight is seen, too
        last.yaxis.set_major_formatter("{x:g}")
        for scheme, (name, colour, style) in SCHEMES.items():
            values = eps_multiplier(self.diffusion, scheme)
            last.plot((values / values.mean()).numpy(), color=colour, linestyle=style, linewidth=1.5, label=name)
        counts, share, amount = self.axes[1]
        counts.set(
            ylim=(0, most_pictures),
            xlabel="tenth of the chain",
            ylabel="pictures",
            title="pictures on each tenth (pale) and\nwhat they are worth there (solid)",
        )
        counts.set_xticks(range(10), [str(n + 1) for n in range(10)])
        share.axhline(50, color="0.6", linewidth=1)
        share.set(
            xlim=(0, steps),
            ylim=(-2, 102),
            xlabel=T_LABEL,
            ylabel="%",
            title="retention's share of the weight (%)\nand where it exceeds half",
        )
        amount.set(
            xlim=(0, self.batch_size),
            ylim=(1.6, -0.6),
            xlabel="pictures of a step",
            title="all pictures (pale) and what\nthey are worth together (solid)",
        )
        amount.set_yticks([0, 1], ["target", "bank"])
        for axis in self.axes.flat:
            axis.title.set_fontsize(11)
            axis.tick_params(labelsize=10)
        handles = [last.plot([], [], color=colour, linewidth=3, label=NAMES[name])[0] for name, colour in TERMS.items()]
        handles += [line for line in last.lines if line.get_label() in {name for name, *_ in SCHEMES.values()}]
        self.figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10, frameon=False)
        describe(self.figure, "Six panels about one setting of the timestep weights: weights as stated, sampling laws, equivalent loss "
                 "weights beside P2 and Min-SNR, pictures and their effective number on each tenth of the chain, retention's share of the "
                 "weight with the crossing dashed, and the effective numbers of both terms.")  # fmt: skip


def weights_figure(
    diffusion: Diffusion, *, most_weight: float = 4.2, most_pictures: float = 12.0, batch_size: int = 32, **setting: object
) -> Figure:
    """The dashboard at one setting (`balance` says which there are), still."""
    board = Dashboard(diffusion, batch_size=batch_size, most_weight=most_weight, most_pictures=most_pictures)
    found = board.update(**setting)
    named = {PARAMETER[setting["family"]] if name == "parameter" else name: value for name, value in setting.items()}
    words = (f"{name.replace('_', ' ')} {value if isinstance(value, str) else format(value, 'g')}" for name, value in named.items())
    board.figure.suptitle(" · ".join(words), fontsize=11)
    worth = (
        f"the {side.pictures.sum():.0f} {name} pictures of a step are worth {side.effective:.1f}, on the tenths "
        f"{side.effective_tenths[0]:.2g} (first) to {side.effective_tenths[-1]:.2g} (last)"
        for name, side in (("target", found.target), ("bank", found.bank))
    )
    where = _where(found.crossing, diffusion.num_timesteps)
    return describe(board.figure, f"{board.figure.get_label()} Retention outweighs reconsolidation: {where}; {'; '.join(worth)}.")


def weights_explorer(
    diffusion: Diffusion, *, most_weight: float = 4.2, most_pictures: float = 12.0, batch_size: int = 32, **axes: Iterable
) -> Moving:
    """The dashboard behind controls.  Axes are named as in `balance`, but the parameter "tau" or "threshold"."""
    board = Dashboard(diffusion, batch_size=batch_size, most_weight=most_weight, most_pictures=most_pictures)
    return Moving(board.figure, board.moving, _by_own_name(board.update), **axes)


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


def _by_own_name(update: Callable[..., object]) -> Callable[..., None]:
    def moved(**values: object) -> None:
        parameter = values.pop("tau") if "tau" in values else values.pop("threshold")
        update(parameter=parameter, **values)

    return moved


def _where(crossing: int, num_timesteps: int) -> str:
    return {0: "nowhere", num_timesteps: "everywhere"}.get(crossing, f"t < {crossing}")
