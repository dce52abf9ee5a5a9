"""How the tiny autoencoder was made: an `AutoencoderKL` trained for plain squared error.

The squared error is what PSNR measures; the Kullback-Leibler term only keeps the latents
near a common scale.  Each latent channel is then given standard deviation 1, as samplers expect.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from difftuning.support.files import sha256
from difftuning.support.progress import progress_bar
from difftuning.support.random import seeded_generator
from difftuning.training.checkpoints import copy_into, optimizer_tensors, restore_optimizer
from difftuning.training.run import Run

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CHANNELS = (16, 32, 64)  # at 32x32, 16x16 and 8x8
KL_WEIGHT = 1e-6


def build_autoencoder(*, channels: tuple[int, ...] = CHANNELS, latent_channels: int = 4) -> AutoencoderKL:
    """A small `AutoencoderKL` without attention: 32x32 pictures to 8x8 latents."""
    from diffusers import AutoencoderKL

    levels = len(channels)
    return AutoencoderKL(
        block_out_channels=channels, down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=1, norm_num_groups=8, latent_channels=latent_channels, mid_block_add_attention=False,
        sample_size=32, scaling_factor=1.0,
    )  # fmt: skip


def train_autoencoder(autoencoder: AutoencoderKL, pictures: Tensor, *, folder: Path, steps: int, batch_size: int = 16,
                      learning_rate: float = 3e-3, seed: int = 0, checkpoint_every: int = 500) -> AutoencoderKL:  # fmt: skip
    """Train in place on uint8 pictures (N, H, W), resumable from `folder`; the rate is cosine after a warm-up."""
    record = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    record["pictures"] = sha256(pictures.contiguous().numpy())
    with Run(folder, record, device=autoencoder.device) as run:
        autoencoder.train().requires_grad_(True).to(memory_format=torch.channels_last)
        weights = dict(autoencoder.named_parameters())
        optimizer = torch.optim.AdamW(weights.values(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0, foreach=True)
        begun, history = 0, "step,loss\n"
        found = run.load()
        if found:
            begun, tensors, history = found
            copy_into(weights, tensors["model"])
            restore_optimizer(optimizer, tensors["optimizer"])
        running = float(history.split(",")[-1]) if begun else None
        bar = progress_bar(range(begun, steps), "autoencoder", initial=begun, total=steps)
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps))
            generator = seeded_generator(seed, "autoencoder", step)
            index = torch.randint(len(pictures), (batch_size,), generator=generator)
            images = as_images(pictures[index]).to(autoencoder.device)
            loss = _loss(autoencoder, images.contiguous(memory_format=torch.channels_last), generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            running = loss.item() if running is None else 0.99 * running + 0.01 * loss.item()
            bar.set_postfix(loss=f"{running:.5f}", refresh=False)
            if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                history += f"{step},{running}\n"
                tensors = {"model": {n: w.detach() for n, w in weights.items()}, "optimizer": optimizer_tensors(optimizer)}
                run.save(step + 1, tensors, history, keep=2)
    return autoencoder.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def _loss(autoencoder: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    posterior = autoencoder.encode(images).latent_dist
    decoded = autoencoder.decode(posterior.sample(generator=generator)).sample
    return (decoded - images).square().mean() + KL_WEIGHT * posterior.kl().sum() / images.numel()


@torch.no_grad()
def standardise_latents(autoencoder: AutoencoderKL, pictures: Tensor) -> None:
    """Give each latent channel mean 0 and standard deviation 1 over uint8 `pictures`, leaving what is decoded as it is.

    The change is folded into the two 1x1 convolutions around the latents, so the result is
    an ordinary `AutoencoderKL` with scaling_factor 1.  Channels of unlike spread would meet
    the same noise at unlike signal-to-noise ratios.
    """
    parts = (as_images(part).to(autoencoder.device) for part in pictures.split(250))
    latents = torch.cat([autoencoder.encode(part).latent_dist.mode() for part in parts])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (C,)
    into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
    channels = len(mean)
    into.weight[:channels] /= std.reshape(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()  # the second half is the log-variance
    out.bias += out.weight.flatten(1) @ mean
    out.weight *= std.reshape(1, -1, 1, 1)
    autoencoder.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def psnr(autoencoder: AutoencoderKL, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all of the uint8 `pictures` (N, H, W), peak 255."""
    error = 0.0
    for part in pictures.split(250):
        images = as_images(part).to(autoencoder.device)
        decoded = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
        error += float(((decoded - images) / 2).square().mean((1, 2, 3)).sum())
    return -10 * math.log10(error / len(pictures))


def as_images(pictures: Tensor) -> Tensor:
    """Grey uint8 (N, H, W) -> float32 (N, 3, H, W) in [-1, 1]."""
    return (pictures.float() / 127.5 - 1).unsqueeze(1).expand(-1, 3, -1, -1)
