"""How the tiny text-to-image base is made: a small Stable Diffusion trained from nothing on captioned pictures, on the one loop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch

from ..config import TextToImageConfig
from ..data.captions import caption_pictures, vocabulary_captions
from ..data.tasks import Task
from ..diffusion.timestep_weights import timestep_distribution
from ..models.pretrained import Pretrained, checked_device
from ..models.text_to_image import build_text_to_image, matched_scheduler
from ..support.kinds import require_kind
from ..support.random import initialised_by
from ..support.surroundings import undisturbed
from .loop import Callback
from .objective import Stream
from .pretrain import balanced_distribution, train_from_nothing
from .run import Run
from .streams import task_stream

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@undisturbed
def pretrain_text_to_image(source: Task, autoencoder: AutoencoderKL, config: TextToImageConfig, *, folder: str | Path,
                           name: str = "tiny-text-to-image", device: str | torch.device = "cpu", callbacks: Sequence[Callback] = (),
                           progress: bool = True) -> Pretrained:  # fmt: skip
    """Train UNet and text encoder on `source`'s latents and captions (data/captions.py), resumable from `folder`; the result is the EMA model."""
    from diffusers import AutoencoderKL

    require_kind("source", source, Task, "load_task")
    require_kind("autoencoder", autoencoder, AutoencoderKL, "AutoencoderKL.from_pretrained")
    require_kind("config", config, TextToImageConfig)
    model = untrained_text_to_image(source, autoencoder, config, name=name).to(checked_device(device))
    record = {"source": source.fingerprint, "encoder": model.encoder_fingerprint, **asdict(config)}
    with Run(folder, record, device=model.device, may_differ=config.may_differ) as run:  # before the long encoding
        stream = captioned_stream(model, source, config)
        return train_from_nothing(model, stream, config, run=run, callbacks=callbacks, progress=progress)


def captioned_stream(model: Pretrained, source: Task, config: TextToImageConfig) -> Stream:
    """All of `source` with its captions under uniform timesteps, classes and prompts drawn as the configuration says."""

    def captions(images: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"text": model.denoiser.tokens(caption_pictures(images, names))}

    return task_stream(
        "source", model, source, captions, labels=torch.full((len(source),), model.null_label), batch=config.batch_size,
        timestep_distribution=timestep_distribution(model.diffusion.num_timesteps, 0), label_drop=config.label_drop,
        picture_distribution=balanced_distribution(source.labels, config.class_balance),
        null_conditions={"text": model.denoiser.tokens([""])[0]},
    )  # fmt: skip


def untrained_text_to_image(source: Task, autoencoder: AutoencoderKL, config: TextToImageConfig, *, name: str) -> Pretrained:
    """The model before its first step, seeded by the configuration; its vocabulary is that of the source's captions."""
    side = source.image_size // 2 ** (len(autoencoder.config.block_out_channels) - 1)
    with initialised_by(config.seed):
        denoiser = build_text_to_image(
            vocabulary_captions(source.class_names), widths=(config.width, 2 * config.width), num_heads=config.num_heads,
            text_width=config.text_width, text_layers=config.text_layers, max_tokens=config.max_tokens,
            latent_shape=(autoencoder.config.latent_channels, side, side),
        )  # fmt: skip
    return Pretrained(denoiser, autoencoder, matched_scheduler(side), label_names=[], name=name)
