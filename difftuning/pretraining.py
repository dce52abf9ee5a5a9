"""How the tiny models were made: a class-conditional DiT trained from nothing, on the one loop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor

from . import checkpoints, processes
from .data import Task
from .dit import DiT, build_dit
from .latents import encode_latents
from .objective import Objective, Stream
from .pretrained import Pretrained, checked_device
from .schedules import p2_weight, timestep_distribution
from .training import Callback, TrainingConfig, train

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """The tiny DiT and how it was trained; uniform timesteps, labels dropped once per sample."""

    steps: int = 12_000
    batch_size: int = 64
    learning_rate: float = 7e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9995
    width: int = 160
    num_heads: int = 5
    num_layers: int = 6
    num_labels: int = 1000  # rows beside the null row, more than the source needs: the rest is for tasks
    label_drop: float = 0.1
    p2_gamma: float = 0.0  # loss weight 1 / (1 + SNR)^gamma (Choi et al., CVPR 2022); 0: all timesteps alike
    class_balance: float = 0.75  # classes are drawn in proportion to their size to this power

    def __post_init__(self):
        super().__post_init__()
        for name in ("width", "num_heads", "num_layers", "num_labels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(f"width must be a multiple of 4 and of num_heads {self.num_heads}, got {self.width}")
        if not 0 <= self.class_balance <= 1:
            raise ValueError(f"class_balance must be between 0 (classes alike) and 1 (pictures alike), got {self.class_balance}")
        if not 0 <= self.p2_gamma <= 2:
            raise ValueError(f"p2_gamma must be between 0 and 2, got {self.p2_gamma}")
        if not 0 <= self.label_drop < 1:
            raise ValueError(f"label_drop must be in [0, 1), got {self.label_drop}")


def pretrain(source: Task, autoencoder: AutoencoderKL, config: PretrainingConfig, *, folder: str | Path, name: str = "tiny",
             start: Pretrained | None = None, device: str | torch.device = "cpu", callbacks: Sequence[Callback] = (), progress: bool = True) -> Pretrained:  # fmt: skip
    """Train a DiT on `source`'s latents, resumable from `folder`; the result is the EMA model.

    `start` gives the first weights where its optimizer's state is gone; None starts from nothing.
    """
    if len(source.class_names) > config.num_labels:
        raise ValueError(f"{source.name} has {len(source.class_names)} classes, the label table {config.num_labels} rows: raise num_labels")
    folder = Path(folder)
    model = untrained(source, autoencoder, config, name=name).to(checked_device(device))
    record = {"source": source.fingerprint, "encoder": model.encoder_fingerprint, **asdict(config)}
    if start is not None:
        if start.latent_shape != model.latent_shape:
            raise ValueError(
                f"start works on latents {start.latent_shape}, pictures of {source.image_size} pixels give {model.latent_shape}"
            )
        checkpoints.copy_into(checkpoints.trainable(model.denoiser), checkpoints.trainable(start.denoiser))
        record["start"] = start.fingerprint
    check = partial(checkpoints.check_run, folder, record, resume=True, may_differ=config.may_differ)
    processes.in_main_process(check, model.device)  # before the long encoding
    encoded = encode_latents(model, source)
    stream = Stream(
        "source", encoded["latents"], source.labels, config.batch_size, timestep_distribution(model.diffusion.num_timesteps, 0),
        label_drop=config.label_drop, null_label=model.null_label, mirrored=encoded.get("mirrored"),
        picture_law=balanced_law(source.labels, config.class_balance),
        eps_weight=p2_weight(model.diffusion.snr, gamma=config.p2_gamma) if config.p2_gamma else None,
    )  # fmt: skip
    objective = Objective([stream], model.diffusion, config.seed)
    state, history = train(
        model.denoiser, objective, config, folder=folder, device=model.device, record=record, callbacks=callbacks, progress=progress
    )
    result = model.with_denoiser(free_rows_as_null(state.ema_model(), model.first_free_label))

    def keep() -> None:
        result.save(folder / "model")
        history.to_csv(folder / "history.csv", index=False)

    processes.in_main_process(keep, model.device)
    return result


def untrained(source: Task, autoencoder: AutoencoderKL, config: PretrainingConfig, *, name: str) -> Pretrained:
    """The model before its first step, seeded by the configuration."""
    from diffusers import DDIMScheduler

    side = source.image_size // 2 ** (len(autoencoder.config.block_out_channels) - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        denoiser = build_dit(
            width=config.width, num_heads=config.num_heads, num_layers=config.num_layers,
            latent_shape=(autoencoder.config.latent_channels, side, side), num_labels=config.num_labels,
        )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    return Pretrained(denoiser, autoencoder, scheduler, label_names=source.class_names, name=name)


def balanced_law(labels: Tensor, power: float) -> Tensor:
    """Probability of each picture so that a class of n pictures is drawn in proportion to n^power; float64 (N,)."""
    counts = torch.bincount(labels).double()
    law = counts[labels] ** (power - 1)
    return law / law.sum()


@torch.no_grad()
def free_rows_as_null(denoiser: DiT, first_free_label: int) -> DiT:
    """Rows that no class has act like "no label", so that a task's labels mean something before tuning, too."""
    table = denoiser.label_table
    table[first_free_label:] = table[-1].clone()
    return denoiser
