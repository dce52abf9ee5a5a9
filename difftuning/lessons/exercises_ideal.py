"""The exercises of lesson 01: the ideal denoiser and how many pictures it averages."""

from __future__ import annotations

from typing import Callable

import torch

from ..diffusion import Diffusion, ideal_denoiser
from .exercises import Grade, compare, exercise


@exercise("ideal denoiser")
def ideal(answer: Callable) -> Grade:
    """answer(x_t, t, data, alphas_cumprod) -> (N, C, h, w), at low, middle and high noise."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 2, 3, 3, generator=generator)
    noise = torch.randn(4, 2, 3, 3, generator=generator)
    diffusion = Diffusion()
    for t in (5, 300, 950):
        x_t = diffusion.q_sample(data[:4], torch.full((4,), t), noise)
        expected = ideal_denoiser(x_t, t, data, diffusion.alphas_cumprod)
        graded = compare(answer(x_t.clone(), t, data.clone(), diffusion.alphas_cumprod), expected, place="number {} of the result".format)
        if not graded.passed:
            return Grade(False, f"at t = {t}: {graded.message}")
    return graded


@exercise("effective number")
def effective_number(answer: Callable) -> Grade:
    """answer(weights) -> (N,): 1 for one-hot weights, M for M equal ones."""
    weights = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    expected = torch.tensor([1, 4, 2, 1 / 0.52], dtype=torch.float64)
    return compare(answer(weights), expected, place=lambda row: f"the number for the weights {weights[row].tolist()}")
