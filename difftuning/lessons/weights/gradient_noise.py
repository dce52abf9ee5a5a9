"""Sampling t or weighting the loss: one expected gradient, two variances.

    sampling   G = g(t),        t ~ p          E|G|^2 = sum_t p_t m_t
    weighting  G = T p_t g(t),  t ~ uniform    E|G|^2 = sum_t T p_t^2 m_t

g(t) is the gradient of one picture's loss at t and m_t = E|g(t)|^2 its mean squared length.  Both have the mean
sum_t p_t E[g(t)], so the variances differ as these two sums do.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from ...diffusion.losses import hybrid_loss
from ...diffusion.process import Diffusion
from ...diffusion.timestep_weights import loss_weights
from ...support.random import seeded_generator


def second_moments(distribution: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """E|G|^2 of sampling t from `distribution`, and of weighting by T p_t under uniform t; `squares` is m_t, both (T,)."""
    return (distribution * squares).sum(), (loss_weights(distribution) * distribution * squares).sum()


def moment_ratio(distribution: Tensor, squares: Tensor) -> float:
    """E|G|^2 of weighting over that of sampling; above 1 sampling has the smaller variance."""
    sampling, weighting = second_moments(distribution, squares)
    return float(weighting / sampling)


def squared_lengths(model: nn.Module, latents: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, diffusion: Diffusion, *,
                    each: int, seed: int = 0) -> Tensor:  # fmt: skip
    """|g|^2 of single pictures' hybrid losses, over all weights of the model; float64 (len(timesteps), each).

    Latents (N, C, h, w) and labels (N,) are drawn anew for every entry, and so is the noise.
    """
    device = next(model.parameters()).device
    found = []
    for t in torch.as_tensor(timesteps).tolist():
        generator = seeded_generator(seed, "squared lengths", t)
        picks = torch.randint(len(latents), (each,), generator=generator)
        noise = torch.randn(each, *latents.shape[1:], generator=generator)
        for pick, eps in zip(picks.split(1), noise.split(1)):
            x_0, eps, y = latents[pick].float().to(device), eps.to(device), labels[pick].to(device)
            at = torch.full((1,), t, device=device)
            x_t = diffusion.q_sample(x_0, at, eps)
            loss = hybrid_loss(model(x_t, at, y), x_0, x_t, eps, at, diffusion).mean()
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            parts = torch.autograd.grad(loss, weights, allow_unused=True)
            found.append(sum(float(part.double().square().sum()) for part in parts if part is not None))
    return torch.tensor(found, dtype=torch.float64).reshape(len(torch.as_tensor(timesteps)), each)
