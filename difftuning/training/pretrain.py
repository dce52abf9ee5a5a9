"""How the tiny models were made: a class-conditional DiT trained from nothing, on the one loop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor

from ..config import PretrainingConfig, TrainingConfig
from ..data.tasks import Task
from ..diffusion.process import Diffusion, matched_snr_scale, scale_snr
from ..diffusion.timestep_weights import p2_weight, timestep_distribution
from ..models.dit import build_dit
from ..models.pretrained import Pretrained, checked_device, require_model
from ..support import processes
from ..support.files import write_text
from ..support.kinds import require_kind
from ..support.random import initialised_by
from ..support.surroundings import undisturbed
from . import checkpoints
from .draw_ahead import StreamAhead
from .label_rows import free_rows_as_null
from .loop import Callback, require_list, train
from .objective import Objective, Stream
from .run import Run
from .streams import task_stream

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@undisturbed
def pretrain(source: Task, autoencoder: AutoencoderKL, config: PretrainingConfig, *, folder: str | Path, name: str = "tiny",
             start: Pretrained | None = None, device: str | torch.device = "cpu", callbacks: Sequence[Callback] = (), progress: bool = True) -> Pretrained:  # fmt: skip
    """Train a DiT on `source`'s latents, resumable from `folder`; the result is the EMA model.

    `start` gives the first weights where its optimizer's state is gone; None starts from nothing.
    """
    from diffusers import AutoencoderKL

    require_kind("source", source, Task, "load_task")
    require_kind("autoencoder", autoencoder, AutoencoderKL, "AutoencoderKL.from_pretrained")
    require_kind("config", config, PretrainingConfig)
    model = untrained(source, autoencoder, config, name=name).to(checked_device(device))
    record = {"source": source.fingerprint, "encoder": model.encoder_fingerprint, **asdict(config)}
    if start is not None:
        require_model("start", start)
        if start.latent_shape != model.latent_shape:
            raise ValueError(
                f"start works on latents {start.latent_shape}, pictures of {source.image_size} pixels give {model.latent_shape}: "
                f"load the source with size={start.image_size}"
            )
        checkpoints.copy_into(checkpoints.trainable(model.denoiser), checkpoints.trainable(start.denoiser))
        record["start"] = start.fingerprint
    with Run(folder, record, device=model.device, may_differ=config.may_differ) as run:  # before the long encoding
        stream = pretraining_stream(model, source, config)
        return train_from_nothing(model, stream, config, run=run, callbacks=callbacks, progress=progress)


def train_from_nothing(model: Pretrained, stream: Stream, config: TrainingConfig, *, run: Run,
                       callbacks: Sequence[Callback], progress: bool) -> Pretrained:  # fmt: skip
    """The one loop over one stream; the EMA model, kept with its history in the run's folder."""
    if model.device.type != "cpu":  # there a step takes less time than its random numbers; the CPU is busy with the step itself
        stream = StreamAhead(stream, model.device)
    objective = Objective([stream], model.diffusion, config.seed)
    require_list(callbacks)
    state, history = train(model.denoiser, objective, config, run=run, device=model.device, callbacks=callbacks, progress=progress)
    denoiser = state.ema_model()
    if denoiser.label_table is not None:
        free_rows_as_null(denoiser, model.first_free_label)
    result = model.with_denoiser(denoiser)

    def keep() -> None:
        result.save(run.folder / "model")
        write_text(run.folder / "history.csv", history.to_csv(index=False, lineterminator="\n"))

    processes.in_main_process(keep, model.device)
    return result


def pretraining_stream(model: Pretrained, source: Task, config: PretrainingConfig) -> Stream:
    """All of `source` under uniform timesteps, classes and labels drawn as the configuration says."""
    return task_stream(
        "source", model, source, labels=source.labels, batch=config.batch_size, label_drop=config.label_drop,
        timestep_distribution=timestep_distribution(model.diffusion.num_timesteps, 0),
        picture_distribution=balanced_distribution(source.labels, config.class_balance),
        eps_weight=p2_weight(model.diffusion.snr, gamma=config.p2_gamma) if config.p2_gamma else None,
    )  # fmt: skip


def untrained(source: Task, autoencoder: AutoencoderKL, config: PretrainingConfig, *, name: str) -> Pretrained:
    """The model before its first step, seeded by the configuration."""
    from diffusers import DDIMScheduler

    factor, size = 2 ** (len(autoencoder.config.block_out_channels) - 1), source.image_size
    if size % (2 * factor):  # patches are 2x2 latents
        fitting = max(1, size // (2 * factor)) * 2 * factor
        raise ValueError(f"{source.name} has pictures of {size} pixels, no multiple of {2 * factor}: load them with size={fitting}")
    side = size // factor
    with initialised_by(config.seed):
        denoiser = build_dit(
            width=config.width, num_heads=config.num_heads, num_layers=config.num_layers,
            latent_shape=(autoencoder.config.latent_channels, side, side), num_labels=config.num_labels,
        )  # fmt: skip
    factor = matched_snr_scale(side) if config.snr_scale is None else config.snr_scale
    betas = {} if factor == 1 else {"trained_betas": scale_snr(Diffusion().betas, factor).tolist()}
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False, **betas)
    return Pretrained(denoiser, autoencoder, scheduler, label_names=source.class_names, name=name)


def balanced_distribution(labels: Tensor, power: float) -> Tensor:
    """Probability of each picture so that a class of n pictures is drawn in proportion to n^power; float64 (N,)."""
    counts = torch.bincount(labels).double()
    weights = counts[labels] ** (power - 1)
    return weights / weights.sum()
