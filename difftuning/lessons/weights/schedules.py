"""What a timestep means under another noise schedule: how much of a picture the model can still tell.

The model knows the timesteps of its own schedule alone.  Under another one it is asked at the timestep of its own with the
same signal-to-noise ratio (SNR): the noised picture is the same there.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from ...diffusion.process import Diffusion, scale_snr
from ...models.pretrained import Pretrained
from ...support.random import seeded_generator

LEVELS = (0.1, 0.5, 0.9)  # of the known share


def scaled_schedule(factor: float) -> Diffusion:
    """The linear schedule with `factor` times its SNR at every t."""
    linear = Diffusion()
    return linear if factor == 1 else Diffusion(scale_snr(linear.betas, factor))


def same_noise(snr: Tensor, own: Diffusion) -> Tensor:
    """The timestep of `own` whose SNR is nearest to each of `snr`, in the logarithm; int64, in the shape of snr."""
    return (snr.log()[..., None] - own.snr.log()).abs().argmin(-1)


class Known(NamedTuple):
    """How much of a picture is known, by SNR; both (K,), SNR falling."""

    snr: np.ndarray
    share: np.ndarray

    def at(self, diffusion: Diffusion) -> np.ndarray:
        """The known share at every t of a schedule; (T,)."""
        return np.interp(np.log(diffusion.snr.numpy()), np.log(self.snr[::-1]), self.share[::-1])


@torch.no_grad()
def known_share(pretrained: Pretrained, images: Tensor, *, count: int = 20, seed: int = 0) -> Known:
    """1 - E|guess - x_0|^2 / variance of x_0, at `count` timesteps: 1 where the guess is the picture, 0 where it says no more than the mean.

    The guess is the model's predicted x_0 under its null label.  A guess worse than the mean counts as 0.
    """
    latents = pretrained.encode(images)
    variance = float((latents - latents.mean(0)).square().mean())
    timesteps = torch.linspace(0, pretrained.diffusion.num_timesteps - 1, count).long()
    shares = []
    for t in timesteps.tolist():
        _, guess = _noised_and_guess(pretrained, latents, t, seed)
        shares.append(max(0.0, 1 - float((guess - latents).square().mean()) / variance))
    return Known(pretrained.diffusion.snr[timesteps].numpy(), np.minimum.accumulate(np.array(shares)))


@torch.no_grad()
def strip(pretrained: Pretrained, image: Tensor, diffusion: Diffusion, timesteps: Sequence[int], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One picture (3, H, W) noised up to each timestep of `diffusion`, and the model's guess of it; two (K, 3, H, W)."""
    latents = pretrained.encode(image[None])
    places = same_noise(diffusion.snr[list(timesteps)], pretrained.diffusion)
    pairs = [_noised_and_guess(pretrained, latents, int(t), seed) for t in places]
    noised, guesses = (torch.cat(side) for side in zip(*pairs))
    return pretrained.decode(noised).cpu(), pretrained.decode(guesses).cpu()


def picks_by_known_share(distribution: Tensor, known: np.ndarray) -> list[float]:
    """How much of a distribution of t (T,) falls where the known share (T,) is below each of `LEVELS` or above the last."""
    bins = np.digitize(known, LEVELS)
    return [float(distribution.numpy()[bins == place].sum()) for place in range(len(LEVELS) + 1)]


def _noised_and_guess(pretrained: Pretrained, latents: Tensor, t: int, seed: int) -> tuple[Tensor, Tensor]:
    at = torch.full((len(latents),), t, device=latents.device)
    noise = torch.randn(latents.shape, generator=seeded_generator(seed, "strip", 0)).to(latents.device)  # the same at every t
    x_t = pretrained.diffusion.q_sample(latents, at, noise)
    eps = pretrained.denoiser(x_t, at, torch.full_like(at, pretrained.null_label))[:, : latents.shape[1]]
    return x_t, pretrained.diffusion.predict_x0(x_t, at, eps)
