"""The exercises of lesson 03: the ideal noise predictor, and how many pictures an average holds."""

from __future__ import annotations

from typing import Callable

import torch

from ...diffusion.ideal import ideal_denoiser
from ...diffusion.process import Diffusion
from ..exercises import Grade, compare, exercise


@exercise("ideal noise")
def ideal_noise(answer: Callable) -> Grade:
    """answer(x_t, t, data, alphas_cumprod) -> E[noise | x_t] (N, C, h, w), at low, middle and high noise."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 2, 3, 3, generator=generator)
    noise = torch.randn(4, 2, 3, 3, generator=generator)
    diffusion = Diffusion()
    for t in (5, 300, 950):
        x_t = diffusion.q_sample(data[:4], torch.full((4,), t), noise)
        picture = ideal_denoiser(x_t, t, data, diffusion.alphas_cumprod)
        expected = diffusion.predict_eps(x_t, torch.full((4,), t), picture)
        found = answer(x_t.clone(), t, data.clone(), diffusion.alphas_cumprod)
        graded = compare(found, expected, place="number {} of the result".format)
        if not graded.passed:
            hint = "; that is the ideal picture: which noise leads from it to x_t?" if compare(found, picture).passed else ""
            return Grade(False, f"at t = {t}: {graded.message}{hint}")
    return graded


@exercise("effective number")
def effective_number(answer: Callable) -> Grade:
    """answer(weights) -> (N,): 1 / sum of squares, which is 1 for one-hot weights and M for M equal ones."""
    weights = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    expected = torch.tensor([1, 4, 2, 1 / 0.52], dtype=torch.float64)
    found = answer(weights.clone())
    graded = compare(found, expected, place=lambda row: f"the number for the weights {weights[row].tolist()}", separate=True)
    perplexity = torch.special.entr(weights).sum(1).exp()
    if not graded.passed and compare(found, perplexity).passed:
        return Grade(
            False, f"{graded.message}; that is exp(entropy), another count of the kind: here it is the one from the sum of squares"
        )
    return graded
