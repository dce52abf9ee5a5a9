"""Where along the chain to train: loss weights over the timestep t, and distributions that t is drawn from.

Timesteps are 0-based integers, 0 = least noise, T = num_timesteps.  *Reconsolidation*
psi(t) rises with t (adapt to the target where the noise is large), *retention* xi(t)
falls with t (keep the pre-trained denoiser near the data).  Two families carry the
name tau and part ways once tau differs from 1:

    paper     psi = (t/T)^tau         xi = 1 - (t/T)^tau       (the formulas of the paper)
    official  p_i ~ (i+1)^power       its mirror image         (the published training code)

"swapped" has official's two exchanged: a control, the opposite of what the paper proposes.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Literal, NamedTuple

import torch
from torch import Tensor

from ..config import Family
from ..support.options import require_choice
from ..support.settings import AMOUNT, COUNT, FRACTION, require_within
from .process import as_tensor, precise

SIGMOID_WIDTH = 0.05  # of the chain; a soft step between the threshold and the power families


def reconsolidation_weight(t: Tensor, num_timesteps: int, tau: float = 1.0) -> Tensor:
    """psi(t) = (t/T)^tau, the paper's weight of the target loss; float32, in the shape of t."""
    require_within("tau", tau, AMOUNT)
    return ((_timesteps(t, num_timesteps) / num_timesteps) ** tau).float()


def retention_weight(t: Tensor, num_timesteps: int, tau: float = 1.0) -> Tensor:
    """xi(t) = 1 - (t/T)^tau, the paper's weight of the memory-bank loss; float32, in the shape of t."""
    require_within("tau", tau, AMOUNT)
    return (1 - (_timesteps(t, num_timesteps) / num_timesteps) ** tau).float()


def reconsolidation_threshold(t: Tensor, num_timesteps: int, threshold: float) -> Tensor:
    """1 where t/T >= threshold, else 0; float32, in the shape of t."""
    return (_fraction(t, num_timesteps, threshold) >= threshold).float()


def retention_threshold(t: Tensor, num_timesteps: int, threshold: float) -> Tensor:
    """1 where t/T < threshold, else 0; float32, in the shape of t."""
    return (_fraction(t, num_timesteps, threshold) < threshold).float()


def reconsolidation_sigmoid(t: Tensor, num_timesteps: int, threshold: float) -> Tensor:
    """A soft step up at t/T = threshold, `SIGMOID_WIDTH` of the chain wide; float32, in the shape of t."""
    return torch.sigmoid((_fraction(t, num_timesteps, threshold) - threshold) / SIGMOID_WIDTH).float()


def retention_sigmoid(t: Tensor, num_timesteps: int, threshold: float) -> Tensor:
    """A soft step down at t/T = threshold; with the step up it sums to 1; float32, in the shape of t."""
    return (1 - torch.sigmoid((_fraction(t, num_timesteps, threshold) - threshold) / SIGMOID_WIDTH)).float()


def timestep_distribution(num_timesteps: int, power: float, *, descending: bool = False) -> Tensor:
    """Probability of training on each timestep, as in the published code.

    Rising (reconsolidation): proportional to (i+1)^power; `descending` mirrors it
    (retention).  Power 0 is uniform.  Returns float64 of shape (num_timesteps,), sum 1.
    """
    require_within("num_timesteps", num_timesteps, COUNT)
    require_within("power", power, AMOUNT)
    ranks = torch.arange(1, num_timesteps + 1, dtype=torch.float64, device="cpu")
    rising = (ranks / num_timesteps) ** power  # scaled first: 1000^power may overflow
    rising = rising / rising.sum()
    return rising.flip(0) if descending else rising


class TimestepFamily(NamedTuple):
    """psi and xi over the whole chain, (num_timesteps, parameter) -> float64 (T,), and what they are: t's distribution or loss weights.

    `parameter` is the power (official), tau (paper) or the threshold (threshold, sigmoid).
    """

    psi: Callable[[int, float], Tensor]
    xi: Callable[[int, float], Tensor]
    stated_as: Literal["distribution", "weights"]


def _whole_chain(weight: Callable[[Tensor, int, float], Tensor]) -> Callable[[int, float], Tensor]:
    return lambda num_timesteps, parameter: weight(torch.arange(num_timesteps, device="cpu"), num_timesteps, parameter).double()


FAMILIES: dict[Family, TimestepFamily] = {
    "official": TimestepFamily(timestep_distribution, partial(timestep_distribution, descending=True), "distribution"),
    "paper": TimestepFamily(_whole_chain(reconsolidation_weight), _whole_chain(retention_weight), "weights"),
    "threshold": TimestepFamily(_whole_chain(reconsolidation_threshold), _whole_chain(retention_threshold), "weights"),
    "sigmoid": TimestepFamily(_whole_chain(reconsolidation_sigmoid), _whole_chain(retention_sigmoid), "weights"),
    "swapped": TimestepFamily(partial(timestep_distribution, descending=True), timestep_distribution, "distribution"),
}


def reconsolidation_weighting(family: Family, num_timesteps: int, parameter: float) -> Tensor:
    """A family's psi as a weight on the loss at every timestep; float64 (T,).  A distribution p stands as T p, of mean 1."""
    psi, _, stated_as = _family(family)
    return loss_weights(psi(num_timesteps, parameter)) if stated_as == "distribution" else psi(num_timesteps, parameter)


def retention_weighting(family: Family, num_timesteps: int, parameter: float) -> Tensor:
    """A family's xi as a weight on the loss at every timestep; float64 (T,).  A distribution p stands as T p, of mean 1."""
    _, xi, stated_as = _family(family)
    return loss_weights(xi(num_timesteps, parameter)) if stated_as == "distribution" else xi(num_timesteps, parameter)


def reconsolidation_distribution(family: Family, num_timesteps: int, parameter: float) -> Tensor:
    """What t is drawn from in proportion to a family's psi; float64 (T,), sums to 1."""
    return _normalised(reconsolidation_weighting(family, num_timesteps, parameter), f"{family} family at {parameter} gives reconsolidation")


def retention_distribution(family: Family, num_timesteps: int, parameter: float) -> Tensor:
    """What t is drawn from in proportion to a family's xi; float64 (T,), sums to 1."""
    return _normalised(retention_weighting(family, num_timesteps, parameter), f"{family} family at {parameter} gives retention")


def loss_weights(distribution: Tensor) -> Tensor:
    """T p_i: the loss weights whose expected gradient under uniform t is that of sampling t ~ p; mean 1.

    E_{i~p}[l_i] = sum_i p_i l_i = E_{i~U}[T p_i l_i].  The gradient's variance differs.
    """
    return as_tensor(distribution) * len(distribution)


def p2_weight(snr: Tensor, *, k: float = 1.0, gamma: float = 1.0) -> Tensor:
    """P2 weighting of the eps loss, 1 / (k + SNR)^gamma (Choi et al., CVPR 2022, eq. 8)."""
    return 1 / (k + as_tensor(snr)) ** gamma


def min_snr_weight(snr: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Min-SNR weighting of the eps loss, min(SNR, gamma) / SNR (Hang et al., ICCV 2023, section 3.4).

    min(SNR, gamma) is the weight of the x_0 loss; the eps loss carries another 1/SNR.
    """
    return (gamma / as_tensor(snr)).clamp(max=1)  # no 0/0 where the chain ends in pure noise


def _family(name: Family) -> TimestepFamily:
    require_choice("family", name, FAMILIES)
    return FAMILIES[name]


def _normalised(weights: Tensor, whose: str) -> Tensor:
    if weights.sum() == 0:
        raise ValueError(f"the {whose} no weight anywhere, so nothing can be sampled from it")
    return weights / weights.sum()


def _fraction(t: Tensor, num_timesteps: int, threshold: float) -> Tensor:
    """t/T in float64; ValueError where the threshold is no such fraction."""
    require_within("threshold", threshold, FRACTION)
    return _timesteps(t, num_timesteps) / num_timesteps


def _timesteps(t: Tensor, num_timesteps: int) -> Tensor:
    require_within("num_timesteps", num_timesteps, COUNT)
    t = as_tensor(t)
    t = t.to(precise(t.device))
    outside = t[~((t >= 0) & (t < num_timesteps))]  # NaN, too
    if len(outside):
        raise ValueError(f"timestep {outside[0].item():g} is outside 0..{num_timesteps - 1}")
    return t
