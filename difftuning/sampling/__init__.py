"""One sampler for everything: DDIM, DDPM and DPM-Solver++, for labels, prompts and condition pictures, with any guide."""

from .labels import label_rows, require_prompts
from .loop import SamplingStep, sample, sample_controlnet, sample_latents

__all__ = ["SamplingStep", "label_rows", "require_prompts", "sample", "sample_controlnet", "sample_latents"]
