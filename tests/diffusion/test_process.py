"""The forward process, the hybrid loss and the ideal denoiser, against diffusers, torch.distributions and plain loops."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from difftuning.diffusion.losses import hybrid_loss
from difftuning.diffusion.process import Diffusion, scale_snr
from tests.diffusion.helpers import SOME_T, draws


def test_default_betas_are_those_of_dit(diffusion):
    assert diffusion.num_timesteps == 1000
    assert float(diffusion.betas[0]) == pytest.approx(1e-4)
    assert float(diffusion.betas[-1]) == pytest.approx(0.02)
    assert diffusion.betas.diff().tolist() == pytest.approx([(0.02 - 1e-4) / 999] * 999, rel=1e-6)


def test_tables_are_float64_running_products(diffusion):
    product, snr = 1.0, []
    for t, beta in enumerate(diffusion.betas.tolist()):
        product *= 1 - beta
        assert float(diffusion.alphas_cumprod[t]) == pytest.approx(product, rel=1e-12)
        snr.append(product / (1 - product))
    assert diffusion.snr.tolist() == pytest.approx(snr, rel=1e-9)
    assert {diffusion.betas.dtype, diffusion.alphas_cumprod.dtype, diffusion.snr.dtype} == {torch.float64}


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_q_sample_is_diffusers_add_noise(schedule):
    scheduler = DDPMScheduler(beta_schedule=schedule)
    x_0, noise = draws(count=2)
    ours = Diffusion(scheduler.betas).q_sample(x_0, SOME_T, noise)
    torch.testing.assert_close(ours, scheduler.add_noise(x_0, noise, SOME_T), rtol=1e-4, atol=2e-5)


def test_one_timestep_for_all_is_an_int_or_a_row(diffusion):
    x_0, noise = draws(count=2)
    assert torch.equal(diffusion.q_sample(x_0, 70, noise), diffusion.q_sample(x_0, torch.full((5,), 70), noise))


@pytest.mark.parametrize("shape", [(3,), (4, 8, 8), (1, 2, 3, 2)])
def test_conversions_invert_each_other(diffusion, shape):
    x_0, eps = draws(shape=shape, count=2)
    x_t = diffusion.q_sample(x_0, SOME_T, eps)
    torch.testing.assert_close(diffusion.predict_eps(x_t, SOME_T, x_0), eps, rtol=1e-3, atol=1e-4)
    x_t = x_t.double()  # dividing by sqrt(a_t) = 0.006 costs float32 its last digits
    torch.testing.assert_close(diffusion.predict_x0(x_t, SOME_T, eps.double()).float(), x_0, rtol=1e-3, atol=1e-4)
    assert x_t.shape == x_0.shape


def test_velocity_is_diffusers_velocity(diffusion):
    x_0, noise = draws(count=2)
    theirs = DDIMScheduler(trained_betas=diffusion.betas.tolist()).get_velocity(x_0, noise, SOME_T)
    torch.testing.assert_close(diffusion.velocity(x_0, SOME_T, noise), theirs, rtol=1e-4, atol=1e-5)


def test_x_0_is_a_rotation_of_x_t_and_velocity(diffusion):
    x_0, noise = draws(count=2)
    a = diffusion.alphas_cumprod[SOME_T].reshape(-1, 1, 1, 1)
    x_t, v = diffusion.q_sample(x_0, SOME_T, noise), diffusion.velocity(x_0, SOME_T, noise)
    torch.testing.assert_close((a.sqrt() * x_t - (1 - a).sqrt() * v).float(), x_0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("betas", [[], [[0.1, 0.2]], [0.1, 0.0], [0.1, -0.2], [1.1], [float("nan")]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas must be a non-empty row of numbers in"):
        Diffusion(torch.tensor(betas))


def test_float64_is_served_in_float64():
    """One conversion after another gives the first back to float64's precision, at both ends of the chain."""
    d = Diffusion()
    x_0, noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0, 500, 999):
        x_t = d.q_sample(x_0, t, noise)
        torch.testing.assert_close(x_t, d.alphas_cumprod[t].sqrt() * x_0 + (1 - d.alphas_cumprod[t]).sqrt() * noise, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(d.predict_x0(x_t, t, noise), x_0, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(d.predict_eps(x_t, t, x_0), noise, rtol=1e-9, atol=1e-9)
    assert d.q_sample(x_0.float(), 500, noise.float()).dtype == torch.float32


def test_betas_of_a_list_keep_their_precision():
    assert Diffusion([0.1, 0.2]).alphas_cumprod.tolist() == pytest.approx([0.9, 0.72], abs=1e-15)


def test_shapes_that_would_broadcast_are_refused():
    d, x_0, t = Diffusion(), torch.zeros(3, 4, 4, 4), torch.tensor([1, 2, 3])
    output = torch.zeros(3, 8, 4, 4)
    with pytest.raises(ValueError, match=r"noise must have the shape of x_0, \(3, 4, 4, 4\), got \(1, 4, 4, 4\)"):
        hybrid_loss(output, x_0, x_0, torch.ones(1, 4, 4, 4), t, d)
    with pytest.raises(ValueError, match="x_t must have the shape of x_0"):
        hybrid_loss(output, x_0, x_0[:1], torch.ones(3, 4, 4, 4), t, d)
    with pytest.raises(ValueError, match="noise must have the shape of x_0"):
        d.q_sample(x_0, t, torch.ones(1, 4, 4, 4))
    with pytest.raises(RuntimeError, match="must match the size"):
        d.q_sample(x_0, t[:2], x_0)
    with pytest.raises(ValueError, match="whole numbers"):
        d.q_sample(x_0, 0.5, x_0)


@pytest.mark.parametrize("factor", [0.25, 1.0, 16.0])
def test_a_scaled_schedule_has_that_many_times_the_snr_at_every_t(factor):
    linear = Diffusion()
    scaled = Diffusion(scale_snr(linear.betas, factor))
    torch.testing.assert_close(scaled.snr, factor * linear.snr, rtol=1e-8, atol=0)
    assert scaled.num_timesteps == linear.num_timesteps
