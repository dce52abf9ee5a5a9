"""Sizes of a small DiT, its inputs, and what a model makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from difftuning.models.pretrained import Pretrained

WIDTH, HEADS, LAYERS, SIDE, LABELS = 24, 3, 3, 8, 6
SIZES = {"width": WIDTH, "num_heads": HEADS, "num_layers": LAYERS, "latent_shape": (4, SIDE, SIDE), "num_labels": LABELS}


def call(n: int = 3, side: int = SIDE, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(n, 4, side, side, generator=generator)
    return x_t, torch.tensor([0, 437, 999])[:n], torch.tensor([0, 3, LABELS])[:n]


TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def outputs(model: Pretrained) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(3, *model.latent_shape, generator=generator).to(model.dtype)
    with torch.no_grad():
        return model.denoiser(x_t, torch.tensor([0, 500, 999]), torch.tensor([0, 4, model.null_label]))
