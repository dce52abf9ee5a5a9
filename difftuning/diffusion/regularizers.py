"""Penalties against forgetting, each beside its equation."""

from __future__ import annotations

from typing import Iterable, Sequence

import torch
from torch import Tensor


def l2_sp(weights: Iterable[Tensor], start: Iterable[Tensor]) -> Tensor:
    """1/2 sum_i (theta_i - theta_i^0)^2: half the squared distance from the starting weights.

    The first term of Li et al., ICML 2018, eq. 2.  Their second pulls new weights to 0; here new ones (label rows, an adapter's)
    are pulled to where they start, as all others are.
    """
    return 0.5 * torch.stack([(own - first).square().sum() for own, first in zip(weights, start)]).sum()


def diagonal_fisher(losses: Iterable[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """F_i = mean over samples of (d loss / d theta_i)^2, one scalar loss for each sample, in the shapes of `weights`.

    With -log p for the loss this is the diagonal of the empirical Fisher information; a diffusion model's denoising loss, up
    to a factor a bound of -log p, stands in for it.  The square is of each sample's own gradient, not of a batch's mean.
    """
    sums, count = [torch.zeros_like(weight) for weight in weights], 0
    for loss in losses:
        for total, gradient in zip(sums, torch.autograd.grad(loss, weights, allow_unused=True)):
            if gradient is not None:  # None: this loss does not depend on the weight
                total.add_(gradient.square())
        count += 1
    return [total / count for total in sums]


def ewc(weights: Iterable[Tensor], start: Iterable[Tensor], fisher: Iterable[Tensor]) -> Tensor:
    """1/2 sum_i F_i (theta_i - theta_i^0)^2, elastic weight consolidation (Kirkpatrick et al., PNAS 2017, eq. 3)."""
    terms = [(importance * (own - first).square()).sum() for own, first, importance in zip(weights, start, fisher)]
    return 0.5 * torch.stack(terms).sum()


def distillation(eps: Tensor, teacher_eps: Tensor) -> Tensor:
    """||eps_theta(x_t, t) - eps_theta^0(x_t, t)||^2, the mean over each sample's (C, h, w); (N,).

    Learning without forgetting (Li and Hoiem, ECCV 2016) for a denoiser: the frozen model's answer is the target.
    """
    return (eps - teacher_eps).square().flatten(1).mean(1)
