"""The hybrid loss against distributions and diffusers; its gradient trains the variance alone."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from difftuning.diffusion.losses import eps_loss, gaussian_kl, hybrid_loss
from difftuning.diffusion.process import Diffusion
from tests.diffusion.helpers import SOME_T, draws


def posterior(diffusion: Diffusion, x_0: Tensor, x_t: Tensor, t: int) -> Normal:
    """q(x_{t-1} | x_t, x_0) by Bayes' rule: prior from x_0 times likelihood of x_t, both Gaussian."""
    beta = float(diffusion.betas[t])
    before = float((1 - diffusion.betas[:t]).prod())
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (x_0 * math.sqrt(before) / (1 - before) + x_t * math.sqrt(1 - beta) / beta) / precision
    return Normal(mean, torch.full_like(mean, precision**-0.5))


def posterior_variance(diffusion: Diffusion, t: int) -> float:
    return float(posterior(diffusion, torch.zeros(1).double(), torch.zeros(1).double(), t).variance)


def reverse_step(diffusion: Diffusion, eps: Tensor, fraction: Tensor, x_t: Tensor, t: int) -> Normal:
    """p(x_{t-1} | x_t): the posterior at the estimated x_0, its variance between the posterior's and beta_t."""
    a = float((1 - diffusion.betas[: t + 1]).prod())
    x_0 = (x_t - math.sqrt(1 - a) * eps) / math.sqrt(a)
    # At t = 0 the posterior is a point: its mean is x_0, and the next timestep lends its variance.
    mean = posterior(diffusion, x_0, x_t, t).mean if t > 0 else x_0
    small = posterior_variance(diffusion, max(t, 1))
    log_variance = fraction * math.log(float(diffusion.betas[t])) + (1 - fraction) * math.log(small)
    return Normal(mean, (log_variance / 2).exp())


def bound_by_distributions(diffusion: Diffusion, output: Tensor, x_0: Tensor, x_t: Tensor, t: int) -> float:
    """L_t of one sample in bits per number, in float64."""
    output, x_0, x_t = output.double(), x_0.double(), x_t.double()
    channels = len(x_0)
    step = reverse_step(diffusion, output[:channels], (output[channels:] + 1) / 2, x_t, t)
    if t > 0:
        return float(kl_divergence(posterior(diffusion, x_0, x_t, t), step).mean()) / math.log(2)
    upper = torch.where(x_0 > 0.999, torch.ones_like(x_0), step.cdf(x_0 + 1 / 255))
    lower = torch.where(x_0 < -0.999, torch.zeros_like(x_0), step.cdf(x_0 - 1 / 255))
    return float(-(upper - lower).log().mean()) / math.log(2)


@pytest.mark.parametrize("t", [1, 2, 50, 400, 999])
def test_hybrid_loss_is_mse_plus_the_divergence_of_the_two_gaussians(diffusion, t):
    x_0, noise = draws(count=2)
    output = torch.cat([noise + 0.3 * draws(6)[0][:5], draws(7)[0][:5]], dim=1)  # variances outside [-1, 1] too
    times = torch.full((5,), t)
    x_t = diffusion.q_sample(x_0, times, noise)
    losses = hybrid_loss(output, x_0, x_t, noise, times, diffusion)
    for n in range(5):
        mse = float((output[n, :2] - noise[n]).double().square().mean())
        bound = bound_by_distributions(diffusion, output[n], x_0[n], x_t[n], t)
        assert float(losses[n]) == pytest.approx(mse + bound, rel=2e-4, abs=1e-6)
        assert float(losses[n] - eps_loss(output, noise)[n]) == pytest.approx(bound, rel=1e-3, abs=1e-5)


def test_at_t_0_the_bound_is_the_likelihood_of_256_levels(diffusion):
    """DiT's tanh approximation of the normal distribution function is within 2 % here."""
    x_0 = (torch.randint(0, 256, (5, 2, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    x_0[0], x_0[1] = -1.0, 1.0  # the open-ended outer levels
    noise = draws(count=1)[0]
    times = torch.zeros(5, dtype=torch.int64)
    x_t = diffusion.q_sample(x_0, times, noise)
    output = torch.cat([noise + 0.5 * draws(6)[0][:5], draws(7)[0][:5].clamp(-1, 1)], dim=1)
    losses = hybrid_loss(output, x_0, x_t, noise, times, diffusion) - eps_loss(output, noise)
    expected = [bound_by_distributions(diffusion, output[n], x_0[n], x_t[n], 0) for n in range(5)]
    assert losses.tolist() == pytest.approx(expected, rel=0.02)


def test_mixed_timesteps_give_each_sample_its_own_loss(diffusion):
    x_0, noise = draws(count=2)
    output = torch.cat(draws(count=2), dim=1)
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    together = hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion)
    assert together.shape == (5,)
    alone = [hybrid_loss(*(part[n : n + 1] for part in (output, x_0, x_t, noise, SOME_T)), diffusion) for n in range(5)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_bound_trains_the_variance_and_never_the_noise(diffusion):
    x_0, noise = draws(count=2)
    output = torch.cat(draws(8, count=2), dim=1)[:5].requires_grad_()
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    hybrid = torch.autograd.grad(hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion).sum(), output)[0]
    mse = torch.autograd.grad((output[:, :2] - noise).square().flatten(1).mean(1).sum(), output)[0]
    torch.testing.assert_close(hybrid[:, :2], mse[:, :2])
    assert bool((hybrid[:, 2:].flatten(1).norm(dim=1) > 0).all())


def test_hopeless_outputs_keep_the_loss_and_its_gradient_finite(diffusion):
    x_0, noise = draws(count=2)
    output = (100 * torch.cat(draws(8, count=2), dim=1)[:5]).clamp(-50, 50).requires_grad_()
    output.data[:, 2:] = output.data[:, 2:].clamp(-1, 1)
    x_t = diffusion.q_sample(x_0, SOME_T, noise)
    losses = hybrid_loss(output, x_0, x_t, noise, SOME_T, diffusion)
    losses.sum().backward()
    assert bool(losses.isfinite().all())
    assert bool(output.grad.isfinite().all())


@pytest.mark.parametrize("t", [1, 40, 999])
def test_diffusers_learned_variance_step_draws_from_the_same_gaussian(diffusion, t):
    """What the sampler does is what the loss is the bound of."""
    scheduler = DDPMScheduler(trained_betas=diffusion.betas.tolist(), variance_type="learned_range", clip_sample=False)
    x_t, eps, variance = draws()
    stepped = scheduler.step(torch.cat([eps, variance], 1), t, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
    drawn = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(3))
    gaussian = reverse_step(diffusion, eps.double(), (variance.double() + 1) / 2, x_t.double(), t)
    expected = gaussian.mean + gaussian.stddev * drawn
    torch.testing.assert_close(stepped, expected.float(), rtol=2e-4, atol=2e-4)
    times = torch.full((len(x_t),), t)
    mean = diffusion.posterior_mean(diffusion.predict_x0(x_t, times, eps), x_t, times)
    torch.testing.assert_close(mean, gaussian.mean.float(), rtol=1e-4, atol=1e-4)


def test_output_without_a_variance_is_refused(diffusion):
    x_0, noise = draws(count=2)
    with pytest.raises(ValueError, match=r"each half of model_output must have the shape of x_0, \(5, 2, 4, 4\), got \(5, 1, 4, 4\)"):
        hybrid_loss(noise, x_0, x_0, noise, SOME_T, diffusion)


def test_gaussian_kl_is_torchs():
    torch.manual_seed(0)
    (m_1, log_v_1), (m_2, log_v_2) = torch.randn(2, 2, 50, dtype=torch.float64)
    one, other = (Normal(m, (log_v / 2).exp()) for m, log_v in ((m_1, log_v_1), (m_2, log_v_2)))
    torch.testing.assert_close(gaussian_kl(m_1, log_v_1, m_2, log_v_2), kl_divergence(one, other))
    assert gaussian_kl(m_1, log_v_1, m_1, log_v_1).abs().max() < 1e-12
