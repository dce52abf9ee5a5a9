"""One setting of the timestep weights at a glance: which pictures are trained where, and how much each timestep counts."""

from __future__ import annotations

from typing import Iterable

import numpy as np
from matplotlib.artist import Artist

from ...diffusion.process import Diffusion
from ..explorers import Moving
from ..figures import COLOURS, Figure, describe, theme
from .balance import Balance, balance, threshold_of

TERMS = {"target": COLOURS["reconsolidation only"], "bank": COLOURS["retention only"]}
NAMES = {"target": "new pictures (reconsolidation)", "bank": "bank pictures (retention)"}
MOST_PICTURES = 11
WEIGHTS = (0.005, 10.0)  # limits of the log axis
T_LABEL = "timestep t"


class Dashboard:
    """Two panels about one setting; `update` moves them to another one, and all settings share the axes' limits."""

    def __init__(self, diffusion: Diffusion):
        self.diffusion, self.moving = diffusion, []
        with theme():
            self.figure = Figure(figsize=(9.6, 3.3), layout="constrained")
            counts, weight = self.figure.subplots(1, 2)
        places = np.arange(10) + 0.5
        self.bars = {
            name: self._move(counts.bar(places + shift, np.zeros(10), width=0.4, color=colour, linewidth=0))
            for shift, (name, colour) in zip((-0.2, 0.2), TERMS.items())
        }
        styles = {"target": "-", "bank": (0, (6, 1.5))}  # dashed, so that neither hides the other
        self.lines = {
            name: self._move(weight.plot([], [], color=colour, linewidth=2.4, linestyle=styles[name]))[0] for name, colour in TERMS.items()
        }
        (self.crossing,) = self._move([weight.axvline(0, ymax=0.86, color="0.25", linestyle=":", linewidth=1.4)])
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
        (self.says,) = self._move([weight.text(0.03, 0.9, "", transform=weight.transAxes, fontsize=11, bbox=box)])
        for height, (name, colour) in zip((0.88, 0.78), TERMS.items()):
            counts.text(0.03, height, NAMES[name], transform=counts.transAxes, color=colour, fontsize=12, bbox=box)
        counts.set(
            xlim=(0, 10), ylim=(0, MOST_PICTURES), xlabel=T_LABEL, ylabel="pictures", title="pictures of a step in each tenth of the chain"
        )
        counts.set_xticks(range(0, 11, 2), [f"{tenth * diffusion.num_timesteps // 10}" for tenth in range(0, 11, 2)])
        counts.grid(False, axis="x")
        weight.set(
            xlim=(0, diffusion.num_timesteps),
            yscale="log",
            ylim=WEIGHTS,
            xlabel=T_LABEL,
            ylabel="T p(t), times the weight",
            title="how much each t counts in the loss (log scale)",
        )
        weight.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
        weight.minorticks_off()
        for axis in (counts, weight):
            axis.title.set_fontsize(12)
            axis.yaxis.label.set_fontsize(11)

    def update(self, *, family: str = "official", tau: float = 1.0, **options: object) -> Balance:
        """Move everything to a setting, named as in `balance`; the step families step where the paper's weights cross at this tau."""
        parameter = threshold_of(tau) if family in ("threshold", "sigmoid") else tau
        found = balance(self.diffusion, family=family, parameter=parameter, **options)
        for name, side in (("target", found.target), ("bank", found.bank)):
            for bar, height in zip(self.bars[name], side.pictures.tolist()):
                bar.set_height(height)
            self.lines[name].set_data(np.arange(len(side.weight)), side.weight.clamp(min=WEIGHTS[0] / 10).numpy())
        self.crossing.set_xdata([found.crossing, found.crossing])
        where = _where(found.crossing, self.diffusion.num_timesteps)
        self.says.set_text(f"the bank counts more: {where}")
        describe(
            self.figure,
            f"Left: pictures of a step on each tenth of the chain, {found.target.pictures[0]:.1f} new and {found.bank.pictures[0]:.1f} of the "
            f"bank on the first, {found.target.pictures[-1]:.1f} and {found.bank.pictures[-1]:.1f} on the last. Right: how much "
            f"each t counts in the loss, for both kinds; the bank counts more: {where}.",
        )
        return found

    def _move(self, artists: Iterable[Artist]) -> list[Artist]:
        artists = list(artists)
        for artist in artists:
            artist.set_in_layout(False)  # the layout must not depend on what moves
        self.moving += artists
        return artists


def weights_explorer(diffusion: Diffusion, **axes: Iterable) -> Moving:
    """The dashboard behind controls, which are named as in `Dashboard.update`."""
    board = Dashboard(diffusion)
    return Moving(board.figure, board.moving, board.update, **axes)


def _where(crossing: int, num_timesteps: int) -> str:
    return {0: "nowhere", num_timesteps: "everywhere"}.get(crossing, f"t < {crossing}")
