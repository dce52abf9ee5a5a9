"""The samplers against diffusers' schedulers in loops of their own, and on an exact denoiser."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from difftuning.config import Sampler
from difftuning.diffusion.ideal import ideal_denoiser
from difftuning.diffusion.process import Diffusion
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import SamplingStep, sample_latents
from difftuning.sampling.steppers import STEPPERS, reverse_timesteps
from tests.sampling.helpers import eps_and_variance, first_noise


@pytest.mark.parametrize("steps", [1, 5, 7])
def test_ddim_is_diffusers_ddim(small_model, steps):
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    x = first_noise(3, seed=4)
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(eps_and_variance(small_model, x, t, [0, 1, 2])[0], t, x).prev_sample
    torch.testing.assert_close(sample_latents(small_model, [0, 1, 2], steps=steps, guidance=1, seed=4), x, rtol=1e-3, atol=1e-3)


def test_ddim_step_is_the_published_formula(small_model):
    """x_s = sqrt(a_s) x_0 + sqrt(1 - a_s) eps, with the model's own x_0 and eps; a = 1 after the last step."""
    a = torch.cat([torch.ones(1).double(), (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(0)])  # a[t + 1]
    x = first_noise(2, seed=0)
    for t in (800, 600, 400, 200, 0):
        eps = eps_and_variance(small_model, x, t, [3, 4])[0].double()
        x_0 = (x.double() - (1 - a[t + 1]).sqrt() * eps) / a[t + 1].sqrt()
        after = a[max(t - 200, -1) + 1]
        x = (after.sqrt() * x_0 + (1 - after).sqrt() * eps).float()
    torch.testing.assert_close(sample_latents(small_model, [3, 4], steps=5, guidance=1, seed=0), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_ddpm_is_diffusers_ddpm_with_learned_variance(small_model, guidance):
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(6)
    x, generators = first_noise(2, seed=4, generator_left=True)
    for t in scheduler.timesteps.tolist():
        c, variance = eps_and_variance(small_model, x, t, [0, 4])
        u, _ = eps_and_variance(small_model, x, t, [1000, 1000])
        output = torch.cat([u + guidance * (c - u), variance], dim=1)
        x = scheduler.step(output, t, x, generator=generators).prev_sample
    ours = sample_latents(small_model, [0, 4], steps=6, sampler="ddpm", guidance=guidance, seed=4)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [2, 8])
def test_dpm_solver_is_diffusers_dpm_solver(small_model, steps):
    """On the same timesteps as DDIM, down to no noise at all."""
    scheduler = DPMSolverMultistepScheduler(trained_betas=np.linspace(1e-4, 0.02, 1000), final_sigmas_type="zero")
    scheduler.set_timesteps(timesteps=[(1000 // steps) * k for k in range(steps)][::-1])
    x = first_noise(2, seed=4)
    for t in scheduler.timesteps:
        x = scheduler.step(eps_and_variance(small_model, x, int(t), [0, 4])[0], t, x).prev_sample
    ours = sample_latents(small_model, [0, 4], steps=steps, sampler="dpm++", guidance=1, seed=4)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
@pytest.mark.parametrize("t, visited", [(999, [999, 799, 599, 399, 199]), (450, [450, 250, 50]), (3, [3])])
def test_any_start_keeps_the_step_length_of_the_whole_chain(small_model, sampler, t, visited):
    states: list[SamplingStep] = []
    x = first_noise(2, seed=1)
    out = sample_latents(small_model, [0, 3], steps=5, sampler=sampler, start=(x, t), callback=states.append)
    assert [step.t for step in states] == visited
    assert torch.equal(states[0].x_t, x)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("start", [400, 450, 199])
@pytest.mark.parametrize("seed", [0, 1])
def test_ddpm_from_any_start_ends_on_its_last_estimate(small_model, start, seed):
    """The last step goes to t = -1, where no noise is left, from wherever the chain came: on the grid of steps or off it."""
    states: list[SamplingStep] = []
    options = {"steps": 5, "sampler": "ddpm", "guidance": 1, "seed": seed, "callback": states.append}
    found = sample_latents(small_model, [0, 3], start=(first_noise(2, seed=1), start), **options)
    assert states[-1].t == start % 200
    torch.testing.assert_close(found, states[-1].x_0, rtol=1e-4, atol=1e-4)


def test_every_sampler_of_the_settings_has_its_step():
    assert tuple(STEPPERS) == get_args(Sampler)


def test_an_offset_begins_and_ends_later_where_the_chain_allows_it():
    assert reverse_timesteps(1000, 5) == [800, 600, 400, 200, 0]
    assert reverse_timesteps(1000, 5, offset=1) == [801, 601, 401, 201, 1]
    assert reverse_timesteps(1000, 1000, offset=1) == list(range(999, -1, -1))
    assert reverse_timesteps(1000, 5, 300, offset=1) == [300, 100]


class Exact(nn.Module):
    """The ideal denoiser over a finite set as a module that gives eps; the variance at its lower bound."""

    def __init__(self, data: Tensor, diffusion: Diffusion):
        super().__init__()
        self.weight, self.null_label, self.learned_variance = nn.Parameter(torch.zeros(1)), 1, True
        self.data, self.diffusion, self.latent_shape = data, diffusion, tuple(data.shape[1:])

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        x_0 = ideal_denoiser(x_t, t, self.data, self.diffusion.alphas_cumprod)
        return torch.cat([self.diffusion.predict_eps(x_t, t, x_0), torch.full_like(x_t, -1.0)], dim=1)


@pytest.fixture(scope="module")
def three_points(small_model) -> Pretrained:
    data = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2
    denoiser = Exact(data, small_model.diffusion)
    return Pretrained(denoiser, small_model.autoencoder, small_model.scheduler, label_names=["point"])


@pytest.mark.parametrize("sampler, steps", [("ddim", 200), ("ddim", 50), ("ddpm", 200), ("dpm++", 50)])
def test_an_exact_denoiser_ends_on_the_data(three_points, sampler, steps):
    out = sample_latents(three_points, [0] * 60, sampler=sampler, steps=steps, guidance=1)
    distances = torch.cdist(out.flatten(1), three_points.denoiser.data.flatten(1))
    assert float(distances.min(1).values.max()) < 1e-2
    shares = torch.bincount(distances.argmin(1), minlength=3)
    assert int(shares.min()) >= 8  # a third each, 20; seven or fewer has a chance of 1 in 1000


def test_an_exact_denoiser_from_mid_way_returns_where_it_came_from(three_points):
    data = three_points.denoiser.data
    noise = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    x_t = three_points.diffusion.q_sample(data, 100, noise)
    out = sample_latents(three_points, [0] * 3, steps=100, guidance=1, start=(x_t, 100))
    torch.testing.assert_close(out, data, rtol=0, atol=1e-2)
