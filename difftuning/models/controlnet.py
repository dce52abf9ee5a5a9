"""ControlNet (Zhang, Rao and Agrawala, ICCV 2023): a copy of the UNet's encoder that sees a condition picture.

    eps = UNet(x_t, t, text; residuals of ControlNet(x_t, t, text, picture))

The base is frozen.  The copy's outputs go through 1x1 convolutions that start at zero, so that training begins with what the
base draws, whatever the picture; at first those convolutions alone get a gradient.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Sequence

from torch import Tensor, nn

from ..data.pictures import require_pictures
from ..support.random import initialised_by
from .pretrained import Pretrained

EMBEDDING_CHANNELS = (16, 32, 96, 256)  # of the condition's embedding; each further one halves the picture


@dataclass(frozen=True)
class ControlNetAdapter:
    """An adapter (models/adapters/options.py) that freezes a text-to-image denoiser and trains a ControlNet beside it: the one it has, or a new one.

    `embedding_channels` are those of the condition's embedding, which shrinks pictures by 2^(len - 1).
    """

    embedding_channels: tuple[int, ...]
    seed: int = 0
    leaves_base = True  # it trains new weights alone, and they are saved as a part of the model

    def __call__(self, denoiser: nn.Module) -> None:
        from diffusers import ControlNetModel

        denoiser.requires_grad_(False)
        if denoiser.controlnet is None:
            with initialised_by(self.seed):
                denoiser.controlnet = ControlNetModel.from_unet(
                    denoiser.unet, conditioning_embedding_out_channels=self.embedding_channels
                )  # fmt: skip
        else:
            denoiser.controlnet = copy.deepcopy(denoiser.controlnet)  # whose weights the frozen base may share
        denoiser.controlnet.requires_grad_(True)


def embedding_channels(factor: int) -> tuple[int, ...]:
    """The published channels, as many of them as shrink a picture by `factor`, the autoencoder's; a power of two."""
    halvings = factor.bit_length() - 1
    return tuple(EMBEDDING_CHANNELS[min(place, len(EMBEDDING_CHANNELS) - 1)] for place in range(halvings + 1))


def autoencoder_factor(model: Pretrained) -> int:
    """How many pixels of the picture's side are one of the latent's: 8 in Stable Diffusion, 4 in the tiny world."""
    return model.image_size // model.latent_shape[1]


def require_matching_factor(model: Pretrained, channels: Sequence[int] | None = None) -> None:
    """ValueError where a condition's embedding, by default that of the model's ControlNet, does not shrink pictures to the latents' size."""
    if channels is None:
        channels = model.denoiser.controlnet.config.conditioning_embedding_out_channels
    shrinks, factor = 2 ** (len(channels) - 1), autoencoder_factor(model)
    if shrinks != factor:
        raise ValueError(
            f"the ControlNet's condition embedding shrinks pictures by {shrinks}, the autoencoder of {model.name} by {factor}: "
            f"it needs {len(embedding_channels(factor))} embedding channels, not {len(channels)}"
        )


def require_controls(model: Pretrained, pictures: Tensor) -> None:
    """TypeError or ValueError where condition pictures are not (N, 3, H, W), float in [0, 1], of the model's size, or the model has no ControlNet."""
    if not model.takes_prompts or model.denoiser.controlnet is None:
        raise ValueError(f"{model.name} has no ControlNet: train one with fine_tune_controlnet, or take one by load_controlnet")
    require_pictures("conditions", pictures, model.image_size)
    low, high = (float(pictures.min()), float(pictures.max())) if len(pictures) else (0.0, 0.0)
    if not pictures.is_floating_point() or not 0 <= low <= high <= 1:
        raise ValueError(f"conditions are floats in [0, 1], as annotate gives them, got {pictures.dtype} in {low:.3g}..{high:.3g}")
