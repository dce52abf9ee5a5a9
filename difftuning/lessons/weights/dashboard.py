"""One setting of the timestep weights at a glance: six panels, still or behind controls."""

from __future__ import annotations

from typing import Callable, Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist

from ...diffusion.process import Diffusion
from ..explorers import Moving
from ..figures import COLOURS, Figure, describe, theme
from .balance import Balance, balance, eps_multiplier

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
        self.lines = {kind: self._lines(axis) for kind, axis in zip(("stated", "distribution", "weight"), self.axes[0])}
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
            density = None if side.distribution is None else side.distribution * len(side.distribution)  # 1 is uniform
            for kind, values in (("stated", side.stated), ("distribution", density), ("weight", side.weight)):
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
        describe(self.figure, "Six panels about one setting of the timestep weights: weights as stated, sampling distributions, equivalent loss "
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


def _by_own_name(update: Callable[..., object]) -> Callable[..., None]:
    def moved(**values: object) -> None:
        parameter = values.pop("tau") if "tau" in values else values.pop("threshold")
        update(parameter=parameter, **values)

    return moved


def _where(crossing: int, num_timesteps: int) -> str:
    return {0: "nowhere", num_timesteps: "everywhere"}.get(crossing, f"t < {crossing}")
