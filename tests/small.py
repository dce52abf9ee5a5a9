"""A model and a task small enough for a training step of milliseconds; no file of the tiny world is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler

from difftuning.data.tasks import Task
from difftuning.models.dit import build_dit
from difftuning.models.pretrained import Pretrained
from difftuning.training.memory_bank import MemoryBank

SOURCE_NAMES = ["ring", "cross", "bar", "dot", "hook"]


def small_pretrained(*, num_labels: int = 12, side: int = 4, seed: int = 0) -> Pretrained:
    """Latents (4, side, side) of pictures twice that size; every weight is far from its start, so gradients flow everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = build_dit(width=32, num_heads=2, num_layers=2, latent_shape=(4, side, side), num_labels=num_labels)
        with torch.no_grad():
            for weight in denoiser.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        autoencoder = AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
            layers_per_block=1, norm_num_groups=4, latent_channels=4, mid_block_add_attention=False, sample_size=2 * side,
            scaling_factor=1.0,
        )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    return Pretrained(denoiser, autoencoder, scheduler, label_names=SOURCE_NAMES, name="small")


def small_text_to_image(*, side: int = 4, seed: int = 0) -> Pretrained:
    """A Stable Diffusion of 30,000 weights for pictures twice as wide as its latents; its weights are random throughout."""
    from difftuning.models.text_to_image import build_text_to_image, matched_scheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = build_text_to_image(
            ["a small bright shape leaning left"], widths=(8, 16), num_heads=2, text_width=16, text_layers=1, max_tokens=12,
            latent_shape=(4, side, side),
        )  # fmt: skip
    return Pretrained(
        denoiser, small_pretrained(side=side, seed=seed).autoencoder, matched_scheduler(side), label_names=[], name="small text"
    )


def small_task(*, size: int = 40, classes: int = 3, side: int = 8, flip: bool = False, seed: int = 0) -> Task:
    images = torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Task(
        "shapes", [f"shape {k}" for k in range(classes)], torch.arange(size) % classes, lambda chosen: images[chosen], side,
        fingerprint=f"{size} {classes} {side} {seed}", flip=flip,
    )  # fmt: skip


def small_bank(pretrained: Pretrained, folder: Path, *, size: int = 20, **options) -> MemoryBank:
    options = {"steps": 2, "shard_size": 8, "progress": False} | options
    return MemoryBank.sample(pretrained, size, folder=folder, **options)


def small_depth_annotator(folder: Path) -> torch.nn.Module:
    """A transformers model of depth with random weights, saved in `folder` with what prepares its pictures, 32x32."""
    transformers = pytest.importorskip("transformers")
    config = transformers.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.DPTForDepthEstimation(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return model


def shapes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Upright bars, lying bars and squares at random places: (n, 32, 32) uint8 with labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    images = torch.zeros(n, 32, 32, dtype=torch.uint8)
    for image, label in zip(images, labels):
        row, column = torch.randint(2, 12, (2,), generator=generator).tolist()
        height, width = [(18, 3), (3, 18), (14, 14)][label]
        image[row : row + height, column : column + width] = 230
    return images, labels


def run_python(program: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run a program in a process of its own that can import difftuning and this file, with as many threads as here."""
    tests = Path(__file__).parent
    preamble = (
        f"import sys, torch; sys.path[:0] = [{str(tests)!r}, {str(tests.parent)!r}]; torch.set_num_threads({torch.get_num_threads()})\n"
    )
    done = subprocess.run([sys.executable, "-c", preamble + program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    if check and done.returncode:
        raise AssertionError(done.stderr[-3000:])
    return done
