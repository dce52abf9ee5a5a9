"""The exercises of lesson 03: the ideal noise predictor, the ideal denoiser of single cells, and where that begins to help.

The first two have the tiny world's noise schedule, so that an answer may use the lesson's own functions.
"""

from __future__ import annotations

import functools
from typing import Callable

import torch
from torch import Tensor

from ...diffusion.ideal import ideal_denoiser, patch_denoiser
from ...diffusion.process import Diffusion
from ...models.loading import load_pretrained
from ..exercises import Grade, compare, exercise, written
from . import transfer

PICTURES = "look at the rows 'ideal: {}' of the lesson's first figure: {}"
ERRORS = "look at the figure of errors: where does 'best window', a single cell at low noise, meet the dotted line?"


@exercise("ideal noise")
def ideal_noise(answer: Callable) -> Grade:
    """answer(x_t, t, data, alphas_cumprod) -> E[noise | x_t] (N, C, h, w), at low, middle and high noise."""
    for t, x_t, data, diffusion in _cases():
        picture = ideal_denoiser(x_t, t, data, diffusion.alphas_cumprod)
        expected = diffusion.predict_eps(x_t, torch.full((len(x_t),), t), picture)
        found = answer(x_t.clone(), t, data.clone(), diffusion.alphas_cumprod)
        graded = compare(found, expected, place="number {} of the result".format)
        if not graded.passed:
            hint = "; that is the ideal picture: which noise leads from it to x_t?" if compare(found, picture).passed else ""
            figure = PICTURES.format("pictures", "your noise must lead from these to the noisy ones above")
            return Grade(False, f"at t = {t}: {graded.message}{hint}; {figure}")
    return graded


@exercise("single cells")
def single_cells(answer: Callable) -> Grade:
    """answer(x_t, t, data) -> x_0 (N, C, h, w): the ideal denoiser whose windows are one cell."""
    for t, x_t, data, diffusion in _cases():
        expected = patch_denoiser(x_t, t, data, diffusion.alphas_cumprod, 1)
        found = answer(x_t.clone(), t, data.clone())
        graded = compare(found, expected, place="number {} of the result".format)
        if not graded.passed:
            whole = ideal_denoiser(x_t, t, data, diffusion.alphas_cumprod)
            hint = (
                "; that is the ideal denoiser of whole pictures: every cell needs weights of its own"
                if compare(found, whole).passed
                else ""
            )
            figure = PICTURES.format("windows", "at low noise each cell there is chosen by itself")
            return Grade(False, f"at t = {t}: {graded.message}{hint}; {figure}")
    return graded


CROSSING = range(100, 501, 20)  # timesteps that are tried, from little noise upward


@exercise("poorer source")
def poorer_source(answer: Callable) -> Grade:
    """answer(x_0, shirts) -> the first t of `CROSSING` at which single cells of `shirts` beat leaving the noise in; other noise may shift it by one."""
    model, crossed = load_pretrained("tiny"), {}
    for name in transfer.TASKS:
        x_0 = transfer.latents_of(model, transfer.held_out_pictures(name), 60)
        found = answer(x_0.clone(), _shirts().clone())
        written(found)
        errors = {t: _error_of_cells(x_0, t) for t in CROSSING}
        expected = next(t for t, error in errors.items() if error < float(transfer.noise_level(t, model.diffusion.alphas_cumprod)) ** 2)
        if found not in CROSSING or abs(found - expected) > CROSSING.step:
            return Grade(
                False, f"on {name}: t = {found}, it should be {expected}, the first t at which the error is below levels[t] ** 2; {ERRORS}"
            )
        crossed[name] = f"t = {expected} on {name}, noise level {float(transfer.noise_level(expected, model.diffusion.alphas_cumprod)):.2f}"
    return Grade(True, f"the line is crossed at {'; '.join(crossed.values())}")


def _error_of_cells(x_0: Tensor, t: int) -> float:
    model = load_pretrained("tiny")
    x_t = transfer.noised(model, x_0, t)
    return float((patch_denoiser(x_t, t, _shirts(), model.diffusion.alphas_cumprod, 1) - x_0).square().mean())


@functools.cache
def _shirts() -> Tensor:
    """Latents of the source's T-shirts."""
    pictures = transfer.load_source()
    return transfer.latents_of(
        load_pretrained("tiny"), pictures.subset((pictures.labels == pictures.class_names.index("T-shirt")).nonzero()[:, 0])
    )


@functools.cache
def _diffusion() -> Diffusion:
    return load_pretrained("tiny").diffusion


def _cases() -> list[tuple[int, Tensor, Tensor, Diffusion]]:
    """t, noisy pictures, the set they are from and the schedule."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 2, 3, 3, generator=generator)
    noise = torch.randn(4, 2, 3, 3, generator=generator)
    return [(t, _diffusion().q_sample(data[:4], torch.full((4,), t), noise), data, _diffusion()) for t in (5, 300, 950)]
