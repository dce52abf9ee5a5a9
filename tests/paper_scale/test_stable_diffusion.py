"""Stable Diffusion 1.5 at its full size, with random weights: the same code takes a ControlNet step on the CPU."""

from __future__ import annotations

import resource
import time

import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.data.captions import name_pictures
from difftuning.models.pretrained import Pretrained
from difftuning.models.text_to_image import TextToImage
from difftuning.models.tokenizer import build_tokenizer
from difftuning.training.controlnet import fine_tune_controlnet
from small import small_task

GIGABYTES = 1e9
NEEDED = 16 * GIGABYTES  # of memory: the base, the ControlNet with its average, gradients and AdamW's moments, and a file in writing


def stable_diffusion(side: int) -> Pretrained:
    """Random weights of Stable Diffusion 1.5's shapes, for latents of `side`: UNet 860 M, text encoder 123 M, autoencoder 84 M."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=side, cross_attention_dim=768, attention_head_dim=8)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu")
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2, latent_channels=4, sample_size=8 * side,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    tokenizer = build_tokenizer(["a photograph of a shape"], max_tokens=77)
    return Pretrained(TextToImage(unet, text_encoder, tokenizer), autoencoder, scheduler, label_names=[], name="stable diffusion")


@pytest.mark.paper_scale
@pytest.mark.slow
def test_a_controlnet_step_at_256_pixels_fits_into_memory(tmp_path, capsys):
    import psutil

    if psutil.virtual_memory().available < NEEDED:
        pytest.skip(f"needs {NEEDED / GIGABYTES:.0f} GB of free memory")
    base = stable_diffusion(side=32)
    sizes = {part: sum(p.numel() for p in getattr(base.denoiser, part).parameters()) for part in ("unet", "text_encoder")}
    assert {name: round(size / 1e6) for name, size in sizes.items()} == {"unet": 860, "text_encoder": 123}
    began, seconds = time.perf_counter(), []
    config = DiffTuningConfig(steps=1, batch_size=1, learning_rate=1e-5, keep_checkpoints=1)
    tuned = fine_tune_controlnet(
        base, small_task(size=2, side=256), None, config, folder=tmp_path, captions=name_pictures, progress=False,
        callbacks=[lambda state: seconds.append(time.perf_counter() - began)],
    )  # fmt: skip
    trained = sum(weight.numel() for weight in tuned.model.denoiser.parameters() if weight.requires_grad)
    assert round(trained / 1e6) == 361 and len(tuned.history) == 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with capsys.disabled():
        print(
            f"\nStable Diffusion 1.5 + ControlNet, 256 px, batch 1, float32: step after {seconds[0]:.0f} s, peak memory {peak / GIGABYTES:.1f} GB"
        )
