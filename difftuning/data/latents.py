"""Every picture of a task encoded once, and kept for the next run."""

from __future__ import annotations

import os
from typing import Protocol

import torch
from torch import Tensor

from ..support.surroundings import undisturbed
from .cache import made_once
from .tasks import Task


class Encoder(Protocol):
    """What is needed of a model (`Pretrained`): its autoencoder, and a digest of what decides the latents."""

    autoencoder: torch.nn.Module
    encoder_fingerprint: str

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] -> scaled latents (N, C, h, w)."""


@undisturbed
def encode_latents(pretrained: Encoder, task: Task, *, cache: str | os.PathLike | None = None,
                   batch_size: int = 64, progress: bool = True) -> dict[str, Tensor]:  # fmt: skip
    """Scaled latents of every picture: {"latents": (N, C, h, w)}, and "mirrored" where the task allows flips.

    "mirrored" encodes the horizontal mirror images (an autoencoder does not commute with
    mirroring).  The posterior's mean, where the published code draws from it.  Float32, on the CPU.
    Tasks of 2,000 pictures or more, and any task when `cache` names a folder, are kept there
    (cache.py) under a digest of autoencoder and task.

    Raises OSError, before anything is encoded, where the cache has no space or cannot be written.
    """
    return made_once(
        task,
        lambda images: pretrained.encode(images).float(),
        name="latents",
        key=f"{pretrained.encoder_fingerprint} {pretrained.autoencoder.dtype}",
        doing="encoding",
        cache=cache,
        batch_size=batch_size,
        progress=progress,
    )
