"""Stage 3: steps of Diff-Tuning and of plain fine-tuning at paper scale, timed: DiT-XL/2 at 256 pixels with random weights.

What `fine_tune` trains on (its streams, 26 pictures and 6 of the bank) goes through the loop that it calls; only the files are left out.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler

from difftuning.config import DiffTuningConfig
from difftuning.data.tasks import Task
from difftuning.models.dit import build_dit
from difftuning.models.pretrained import Pretrained
from difftuning.training.label_rows import choose_rows
from difftuning.training.loop import train
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.objective import Objective
from difftuning.training.streams import split_batch, training_streams
from paper_scale.measurements import FAILED, Table

BATCH, CLASSES = 32, 100
PAPER_STEPS = 24_000
NAMES = {"bf16": "bf16 autocast", "no": "float32"}
WARM_UP = 3  # steps that choose kernels and make the optimizer's state


@dataclass(frozen=True)
class Sizes:
    width: int = 1152
    num_heads: int = 16
    num_layers: int = 28
    side: int = 32  # of the latents
    steps: int = 13
    seconds: float = 75  # after which no other measurement is begun


FULL = Sizes()
TOY = Sizes(width=32, num_heads=2, num_layers=2, side=8, steps=5)


def run(sizes: Sizes, device: torch.device, table: Table, out: Path) -> None:
    began = time.monotonic()
    pretrained = random_model(sizes, device)
    task = noise_task(pretrained)
    table.add("parameters", sum(weight.numel() for weight in pretrained.denoiser.parameters()) / 1e6, "million")
    with tempfile.TemporaryDirectory() as folder:
        bank = MemoryBank.sample(pretrained, BATCH, folder=folder, steps=2)
    table.add("ready after", time.monotonic() - began, "s")
    seconds, failed = {}, []
    for precision in NAMES:
        for method in ("Diff-Tuning", "plain fine-tuning"):
            what = f"{method}, {NAMES[precision]}"
            if time.monotonic() - began > sizes.seconds:
                table.add(what, "left out: the time is used up")
                continue
            try:
                seconds[method, precision] = step_seconds(
                    pretrained, task, bank if method == "Diff-Tuning" else None, precision, sizes.steps
                )
            except Exception as error:  # too little memory for one says nothing about the next
                failed.append(what)
                table.add(f"{what}: {FAILED}", f"{type(error).__name__}: {error}")
                continue
            table.add(what, 1 / seconds[method, precision], "steps/s")
            table.add(f"{what}: {PAPER_STEPS:,} steps", PAPER_STEPS * seconds[method, precision] / 3600, "h")
            if device.type == "cuda":
                table.add(f"{what}: peak memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")
        both = [seconds.get((method, precision)) for method in ("Diff-Tuning", "plain fine-tuning")]
        if all(both):
            table.add(f"a Diff-Tuning step / a plain step, {NAMES[precision]}", both[0] / both[1])
    if failed:
        raise RuntimeError(f"no figure for {', '.join(failed)}")


def step_seconds(pretrained: Pretrained, task: Task, bank: MemoryBank | None, precision: str, steps: int) -> float:
    """The median step of the loop, warm; plain fine-tuning without a bank."""
    config = DiffTuningConfig(
        steps=steps, batch_size=BATCH, mixed_precision=precision, reconsolidation_power=0.0 if bank is None else 1.0, label_rows="first"
    )  # fmt: skip
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    streams = training_streams(pretrained, task, bank, config, rows, split_batch(config, bank))
    gc.collect()  # the model of the measurement before, which its optimizer and average hold in a circle
    if pretrained.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(pretrained.device)
    objective = Objective(streams, pretrained.diffusion, config.seed)
    _, history = train(pretrained.copy_denoiser(), objective, config, run=None, device=pretrained.device, progress=False)
    return statistics.median(history["seconds"][WARM_UP:])


def random_model(sizes: Sizes, device: torch.device) -> Pretrained:
    """A DiT of the published layout, no weight at zero: a card multiplies zeros faster.

    Made on the device, as a CPU needs long for so many random numbers.  The autoencoder is a small one with the
    published one's factor of 8: pictures are encoded once, before any step.
    """
    latent_shape = (4, sizes.side, sizes.side)
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        denoiser = build_dit(
            width=sizes.width, num_heads=sizes.num_heads, num_layers=sizes.num_layers, latent_shape=latent_shape,
            norm_eps=1e-6, frequency_shift=0,
        )  # fmt: skip
        with torch.no_grad():
            for weight in denoiser.parameters():
                if not weight.any():
                    weight.normal_(std=0.02)
        autoencoder = AutoencoderKL(
            block_out_channels=(8,) * 4, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=8 * sizes.side, mid_block_add_attention=False,
        )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    return Pretrained(denoiser, autoencoder, scheduler, label_names=[f"class {row}" for row in range(1000)], name="random DiT")


def noise_task(pretrained: Pretrained) -> Task:
    """Pictures of noise, one of each class: what they show does not change what a step costs."""
    shape = (CLASSES, 3, pretrained.image_size, pretrained.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    names = [f"noise {number}" for number in range(CLASSES)]
    return Task("noise", names, torch.arange(CLASSES), lambda chosen: images[chosen], shape[-1], fingerprint="noise")
