"""The chain of forgetting, measured: how a model's denoising changes along the timesteps."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from .diffusion import eps_loss
from .objective import seeded_generator
from .pretrained import Pretrained


def loss_ratio(before: Pretrained, after: Pretrained, images: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, *,
               seed: int = 0) -> dict[str, Tensor]:  # fmt: skip
    """L_after(t) / L_before(t) of the noise prediction at each timestep, on the same images and noise.

    Images (N, 3, H, W), labels int64 (N,) as rows of both models' tables.  Above 1 the model
    has forgotten, below 1 it has learned.  The ratio is the same for noise and x_0 errors,
    which differ by a factor of t alone.  Returns float64 (len(timesteps),) entries `ratio`,
    `before`, `after`, and the `timesteps`.
    """
    timesteps = torch.as_tensor(timesteps, dtype=torch.int64)
    losses = {"before": timestep_losses(before, images, labels, timesteps, seed=seed)}
    losses["after"] = timestep_losses(after, images, labels, timesteps, seed=seed)
    return {"timesteps": timesteps, "ratio": losses["after"] / losses["before"], **losses}


@torch.no_grad()
def timestep_losses(model: Pretrained, images: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, *, seed: int = 0,
                    batch_size: int = 250) -> Tensor:  # fmt: skip
    """Mean squared error of the predicted noise at each timestep; float64 (len(timesteps),)."""
    latents = torch.cat([model.encode(part) for part in images.split(batch_size)])
    labels = torch.as_tensor(labels, dtype=torch.int64).to(model.device)
    if len(labels) != len(latents):
        raise ValueError(f"one label belongs to each image: got {len(labels)} labels and {len(latents)} images")
    means = []
    for t in torch.as_tensor(timesteps).tolist():
        noise = torch.randn(latents.shape, generator=seeded_generator(seed, "timestep loss", t)).to(latents.device)
        errors = []
        for x_0, eps, y in zip(latents.split(batch_size), noise.split(batch_size), labels.split(batch_size)):
            times = torch.full((len(x_0),), t, device=x_0.device)
            errors.append(eps_loss(model.denoiser(model.diffusion.q_sample(x_0, times, eps), times, y), eps))
        means.append(torch.cat(errors).double().mean().cpu())
    return torch.stack(means)


def chain_tenths(num_timesteps: int, each: int = 4) -> Tensor:
    """Timesteps that sample the chain's ten equal parts, `each` in the middle of equal slices of a part; (10, each)."""
    slices = 10 * each
    return ((torch.arange(slices) + 0.5) * num_timesteps / slices).long().reshape(10, each)
