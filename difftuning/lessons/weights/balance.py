"""What a choice of timestep weights amounts to: which pictures are trained where, and how much they count.

One setting of Diff-Tuning (family, tau, share, bank weight, P2 or Min-SNR) comes in; out come its distributions of t, the loss
weights with the same expected gradient, the pictures that fall on each tenth of the chain, and the timestep up to which
retention outweighs reconsolidation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
from ...training.streams import bank_places

LossWeighting = Literal["none", "p2", "min_snr"]
Use = Literal["sample t", "weight the loss"]


@dataclass(frozen=True)
class Side:
    """One of the two terms; tensors are float64."""

    distribution: Tensor | None  # t is drawn from it; None where the family gives no weight anywhere; (T,)
    weight: Tensor  # on the expected loss at t when t is uniform, with everything that multiplies it; (T,)
    pictures: Tensor  # of a step's batch that fall on each tenth of the chain, on average; (10,)


@dataclass(frozen=True)
class Balance:
    """The two terms side by side: reconsolidation on the target's pictures, retention on the bank's."""

    target: Side
    bank: Side

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
    from_bank = bank_places(batch_size, bank_share)
    extra = eps_multiplier(diffusion, loss_weighting)
    sides = []
    for weighting, pictures, factor in (
        (reconsolidation_weighting, batch_size - from_bank, 1.0),
        (retention_weighting, from_bank, bank_weight),
    ):
        sides.append(_side(weighting(family, diffusion.num_timesteps, parameter), factor * extra, use, pictures))
    return Balance(*sides)


def threshold_of(tau: float) -> float:
    """The part of the chain at which the paper's two weights cross, (t/T)^tau = 1/2: where a step that stands for them belongs."""
    return 0.5 ** (1 / tau) if tau else 0.0


def eps_multiplier(diffusion: Diffusion, loss_weighting: LossWeighting) -> Tensor:
    """What P2 or Min-SNR multiplies the eps loss by; 1 for "none".  float64 (T,)"""
    if loss_weighting == "p2":
        return p2_weight(diffusion.snr, gamma=P2_GAMMA)
    if loss_weighting == "min_snr":
        return min_snr_weight(diffusion.snr)
    return torch.ones(diffusion.num_timesteps, dtype=torch.float64)


def per_tenth(values: Tensor) -> Tensor:
    """Sums over the ten equal parts of the chain; (T,) -> (10,).  T must be a multiple of 10."""
    return values.reshape(10, -1).sum(1)


def _side(stated: Tensor, factor: Tensor, use: Use, pictures: int) -> Side:
    """`stated`: the family's weights (T,); `factor`: what else multiplies the loss at t (T,)."""
    if use == "weight the loss":
        distribution = timestep_distribution(len(stated), 0)
        weight = stated * factor
    else:
        distribution = stated / stated.sum() if float(stated.sum()) else None
        weight = stated if distribution is None else loss_weights(distribution) * factor
    drawn = torch.zeros_like(stated) if distribution is None else distribution
    return Side(distribution, weight, pictures * per_tenth(drawn))
