"""Where along the chain to train: weights and sampling laws over the timestep t.

Timesteps are 0-based integers, 0 = least noise, T = num_timesteps.  *Reconsolidation*
psi(t) rises with t (adapt to the target where the noise is large), *retention* xi(t)
falls with t (keep the pre-trained denoiser near the data).  Two families carry the
name tau and part ways once tau differs from 1:

    paper     psi = (t/T)^tau         xi = 1 - (t/T)^tau       (the formulas of the paper)
    official  p_i ~ (i+1)^power       its mirror image         (the published training code)
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Family = Literal["official", "paper", "threshold", "sigmoid"]
SIGMOID_WIDTH = 0.05  # of the chain; a soft step between the threshold and the power families


def reconsolidation_weight(t: Tensor, num_timesteps: int, tau: float = 1.0) -> Tensor:
    """psi(t) = (t/T)^tau, the paper's weight of the target loss; float32, in the shape of t."""
    _require_nonnegative("tau", tau)
    return ((_timesteps(t, num_timesteps) / num_timesteps) ** tau).float()


def retention_weight(t: Tensor, num_timesteps: int, tau: float = 1.0) -> Tensor:
    """xi(t) = 1 - (t/T)^tau, the paper's weight of the memory-bank loss; float32, in the shape of t."""
    _require_nonnegative("tau", tau)
    return (1 - (_timesteps(t, num_timesteps) / num_timesteps) ** tau).float()


def threshold_weight(t: Tensor, num_timesteps: int, threshold: float, *, descending: bool = False) -> Tensor:
    """1 where t/T >= threshold (descending: where t/T < threshold), else 0; float32, in the shape of t."""
    _require_fraction("threshold", threshold)
    above = _timesteps(t, num_timesteps) / num_timesteps >= threshold
    return (~above if descending else above).float()


def sigmoid_weight(t: Tensor, num_timesteps: int, threshold: float, *, descending: bool = False) -> Tensor:
    """A soft step at t/T = threshold, `SIGMOID_WIDTH` of the chain wide; the two directions sum to 1."""
    _require_fraction("threshold", threshold)
    rising = torch.sigmoid((_timesteps(t, num_timesteps) / num_timesteps - threshold) / SIGMOID_WIDTH)
    return (1 - rising if descending else rising).float()


def timestep_distribution(num_timesteps: int, power: float, *, descending: bool = False) -> Tensor:
    """Probability of training on each timestep, the published code's law.

    Rising (reconsolidation): proportional to (i+1)^power; `descending` mirrors it
    (retention).  Power 0 is uniform.  Returns float64 of shape (num_timesteps,), sum 1.
    """
    _require_steps(num_timesteps)
    _require_nonnegative("power", power)
    ranks = torch.arange(1, num_timesteps + 1, dtype=torch.float64)
    rising = (ranks / num_timesteps) ** power  # scaled first: 1000^power may overflow
    rising = rising / rising.sum()
    return rising.flip(0) if descending else rising


def family_weights(family: Family, num_timesteps: int, parameter: float, *, descending: bool = False) -> Tensor:
    """One family's weight at every timestep, as that family states it; float64 (T,).

    `parameter` is the power (official), tau (paper) or the threshold (threshold, sigmoid).
    The official family is a law rather than a weight: its equivalent weight has mean 1.
    """
    if family == "official":
        return loss_weights(timestep_distribution(num_timesteps, parameter, descending=descending))
    _require_steps(num_timesteps)
    t = torch.arange(num_timesteps)
    if family == "paper":
        weight = retention_weight if descending else reconsolidation_weight
        return weight(t, num_timesteps, parameter).double()
    if family == "threshold":
        return threshold_weight(t, num_timesteps, parameter, descending=descending).double()
    if family == "sigmoid":
        return sigmoid_weight(t, num_timesteps, parameter, descending=descending).double()
    raise ValueError(f"unknown family {family!r}: choose one of {', '.join(get_args(Family))}")


def family_distribution(family: Family, num_timesteps: int, parameter: float, *, descending: bool = False) -> Tensor:
    """The sampling law proportional to `family_weights`; float64 (T,), sums to 1."""
    weights = family_weights(family, num_timesteps, parameter, descending=descending)
    if weights.sum() == 0:
        side = "retention" if descending else "reconsolidation"
        raise ValueError(f"the {family} family at {parameter} gives {side} no weight anywhere, so nothing can be sampled from it")
    return weights / weights.sum()


def loss_weights(distribution: Tensor) -> Tensor:
    """T p_i: the loss weights whose expected gradient under uniform t is that of sampling t ~ p; mean 1.

    E_{i~p}[l_i] = sum_i p_i l_i = E_{i~U}[T p_i l_i].  The gradient's variance differs.
    """
    return torch.as_tensor(distribution) * len(distribution)


def p2_weight(snr: Tensor, *, k: float = 1.0, gamma: float = 1.0) -> Tensor:
    """P2 weighting of the eps loss, 1 / (k + SNR)^gamma (Choi et al., CVPR 2022, eq. 8)."""
    return 1 / (k + torch.as_tensor(snr)) ** gamma


def min_snr_weight(snr: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Min-SNR weighting of the eps loss, min(SNR, gamma) / SNR (Hang et al., ICCV 2023, section 3.4).

    min(SNR, gamma) is the weight of the x_0 loss; the eps loss carries another 1/SNR.
    """
    return (gamma / torch.as_tensor(snr)).clamp(max=1)  # no 0/0 where the chain ends in pure noise


def _timesteps(t: Tensor, num_timesteps: int) -> Tensor:
    _require_steps(num_timesteps)
    t = torch.as_tensor(t)
    if t.numel() and (t.min() < 0 or t.max() >= num_timesteps):
        bad = int(t.min()) if t.min() < 0 else int(t.max())
        raise ValueError(f"timestep {bad} is outside 0..{num_timesteps - 1}")
    return t.double()


def _require_steps(num_timesteps: int) -> None:
    if num_timesteps < 1:
        raise ValueError(f"num_timesteps must be at least 1, got {num_timesteps}")


def _require_nonnegative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0, got {value}")


def _require_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a fraction of the chain between 0 and 1, got {value}")
