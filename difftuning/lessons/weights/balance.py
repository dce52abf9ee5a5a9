"""What a choice of timestep weights amounts to: who is trained where, how hard, and on how many pictures.

One setting of Diff-Tuning (family, parameter, share, bank weight, P2 or Min-SNR) comes in;
out come its distributions of t, the loss weights with the same expected gradient, the pictures that fall on
each tenth of the chain, and the timestep up to which retention outweighs reconsolidation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Sequence

import torch
from torch import Tensor

from ...config import P2_GAMMA, Family
from ...diffusion.process import Diffusion
from ...diffusion.timestep_weights import (
    loss_weights,
    min_snr_weight,
    p2_weight,
    reconsolidation_weighting,
    retention_weighting,
    timestep_distribution,
)

if TYPE_CHECKING:
    import pandas

LossWeighting = Literal["none", "p2", "min_snr"]
Use = Literal["sample t", "weight the loss"]


@dataclass(frozen=True)
class Side:
    """One of the two terms; tensors are float64 (T,)."""

    stated: Tensor  # the weights as their family states them
    distribution: Tensor | None  # t is drawn from it; None where the family gives no weight anywhere
    weight: Tensor  # on the expected loss at t when t is uniform, with everything that multiplies it
    pictures: Tensor  # of a step's batch that fall on each tenth of the chain, on average; (10,)
    effective: float  # how many equally weighted pictures a step's pictures are worth
    effective_tenths: Tensor  # the same for the pictures of each tenth by themselves; (10,)


@dataclass(frozen=True)
class Balance:
    target: Side
    bank: Side

    @property
    def retention_share(self) -> Tensor:
        """The bank's part of the two weights at each t, 0..1; nan where both are 0.  (T,)"""
        return self.bank.weight / (self.bank.weight + self.target.weight)

    @property
    def crossing(self) -> int:
        """Retention outweighs reconsolidation at every t below this one; 0 = nowhere, T = everywhere."""
        ahead = self.bank.weight > self.target.weight * (1 + 1e-9)  # a tie is not ahead, whatever the rounding
        return int((~ahead).int().argmax()) if not bool(ahead.all()) else len(ahead)


def balance(diffusion: Diffusion, *, family: Family = "official", parameter: float = 1.0, use: Use = "sample t", bank_share: float = 0.2,
            bank_weight: float = 0.1, loss_weighting: LossWeighting = "none", batch_size: int = 32) -> Balance:  # fmt: skip
    """The two terms of `fine_tune` under these settings, which carry the names of its configuration.

    `parameter` stands for both powers; `use` is the configuration's `weighted` in words.
    """
    from_bank = int(round(batch_size * bank_share, 6))  # as `split_batch` cuts it
    extra = eps_multiplier(diffusion, loss_weighting)
    sides = []
    for weighting, pictures, factor in (
        (reconsolidation_weighting, batch_size - from_bank, 1.0),
        (retention_weighting, from_bank, bank_weight),
    ):
        sides.append(_side(weighting(family, diffusion.num_timesteps, parameter), extra, use, pictures, factor))
    return Balance(*sides)


def two_families(diffusion: Diffusion, taus: Sequence[float]) -> pandas.DataFrame:
    """A row for each tau: the masses of the paper's two weights, and where the terms cross in either family at bank weight 1."""
    import pandas

    uses: tuple[tuple[str, Family, Use], ...] = (
        ("crossing: official", "official", "sample t"),
        ("paper, sampled", "paper", "sample t"),
        ("paper, as weights", "paper", "weight the loss"),
    )
    rows = {}
    for tau in taus:
        weightings = (reconsolidation_weighting, retention_weighting)
        psi, xi = (float(weighting("paper", diffusion.num_timesteps, tau).mean()) for weighting in weightings)
        rows[tau] = {"mean psi": psi, "mean xi": xi, "xi / psi": xi / psi}
        for name, family, use in uses:
            rows[tau][name] = balance(diffusion, family=family, parameter=tau, use=use, bank_weight=1.0).crossing
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("tau")


def eps_multiplier(diffusion: Diffusion, loss_weighting: LossWeighting) -> Tensor:
    """What P2 or Min-SNR multiplies the eps loss by; 1 for "none".  float64 (T,)"""
    if loss_weighting == "p2":
        return p2_weight(diffusion.snr, gamma=P2_GAMMA)
    if loss_weighting == "min_snr":
        return min_snr_weight(diffusion.snr)
    return torch.ones(diffusion.num_timesteps, dtype=torch.float64)


def effective_number(pictures: float, distribution: Tensor, weights: Tensor) -> float:
    """Kish's effective sample size of pictures whose t comes from `distribution` and whose loss is multiplied by `weights`.

    n E[w]^2 / E[w^2]: n where all weights are equal, n / 2 where every other one is 0.
    """
    mean, square = (distribution * weights).sum(), (distribution * weights.square()).sum()
    return float(pictures * mean.square() / square) if square > 0 else 0.0


def effective_by_tenth(pictures: float, distribution: Tensor, weights: Tensor) -> Tensor:
    """`effective_number` of the pictures that fall on each tenth of the chain, for that tenth's part of the loss; (10,).

    n E[w; tenth]^2 / E[w^2; tenth]: the pictures themselves where weights are equal within the
    tenth, 0 where all are 0.  The sum is at least the effective number of all tenths together (by
    Cauchy and Schwarz), which also pays for weights that differ between tenths.
    """
    mean, square = per_tenth(distribution * weights), per_tenth(distribution * weights.square())
    return (pictures * mean.square() / square).nan_to_num(0.0)  # 0 / 0 where nothing counts


def per_tenth(values: Tensor) -> Tensor:
    """Sums over the ten equal parts of the chain; (T,) -> (10,).  T must be a multiple of 10."""
    return values.reshape(10, -1).sum(1)


def mean_timestep(distribution: Tensor) -> float:
    """The mean of t under a distribution (T,)."""
    return float((torch.arange(len(distribution), dtype=torch.float64) * distribution).sum())


def _side(stated: Tensor, extra: Tensor, use: Use, pictures: int, factor: float) -> Side:
    uniform = timestep_distribution(len(stated), 0)
    if use == "weight the loss":
        distribution, multiplier = uniform, stated
    elif float(stated.sum()) == 0:
        distribution, multiplier = None, torch.zeros_like(stated)
    else:
        distribution, multiplier = stated / stated.sum(), torch.ones_like(stated)
    drawn = torch.zeros_like(stated) if distribution is None else distribution
    weight = factor * loss_weights(drawn) * multiplier * extra
    worth = [count(pictures, drawn, multiplier * extra) for count in (effective_number, effective_by_tenth)]
    return Side(stated, distribution, weight, pictures * per_tenth(drawn), *worth)
