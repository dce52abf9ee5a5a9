"""What a denoiser is trained on: the noise's squared error, and the variational bound that trains a learned variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .process import Diffusion, require_shape


def eps_loss(model_output: Tensor, noise: Tensor) -> Tensor:
    """||eps - eps_theta||^2 averaged over each sample's numbers; (N,).  A learned variance is left out."""
    eps = model_output[:, : noise.shape[1]]
    return (eps.float() - noise).square().flatten(1).mean(1)


def hybrid_loss(model_output: Tensor, x_0: Tensor, x_t: Tensor, noise: Tensor, t: Tensor, diffusion: Diffusion) -> Tensor:
    """eps-MSE plus the variational bound that trains the learned variance; (N,).

    `model_output` is (N, 2C, h, w): the noise, then the variance as a fraction in [-1, 1]
    between its two bounds (Nichol and Dhariwal, ICML 2021, eq. 15-16).
    """
    eps, variance = model_output.float().chunk(2, dim=1)
    for name, tensor in (("x_t", x_t), ("noise", noise), ("each half of model_output", eps), ("each half of model_output", variance)):
        require_shape(name, tensor, x_0)
    bound = variational_bound(eps.detach(), variance, x_0, x_t, t, diffusion)
    return eps_loss(eps, noise) + bound


def variational_bound(eps: Tensor, variance: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, diffusion: Diffusion) -> Tensor:
    """L_t of the variational bound in bits per number; (N,).

    L_t = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ),     at t = 0 the decoder's -log p(x_0 | x_1)
    """
    lower, upper = diffusion.at("log_variance", t, x_t), diffusion.at("log_beta", t, x_t)
    fraction = (variance + 1) / 2
    log_variance = fraction * upper + (1 - fraction) * lower
    true_mean = diffusion.posterior_mean(x_0, x_t, t)
    mean = diffusion.posterior_mean(diffusion.predict_x0(x_t, t, eps), x_t, t)
    divergence = gaussian_kl(true_mean, lower, mean, log_variance)
    likelihood = discretized_gaussian_log_likelihood(x_0, mean, 0.5 * log_variance)
    first = torch.as_tensor(t, device=x_t.device).eq(0)
    return torch.where(first, -likelihood.flatten(1).mean(1), divergence.flatten(1).mean(1)) / math.log(2)


def gaussian_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL( N(m_1, v_1) || N(m_2, v_2) ) = ( log(v_2 / v_1) - 1 + v_1 / v_2 + (m_1 - m_2)^2 / v_2 ) / 2; element-wise, in nats."""
    ratio = (log_variance_1 - log_variance_2).exp()
    return 0.5 * (log_variance_2 - log_variance_1 - 1 + ratio + (mean_1 - mean_2).square() * (-log_variance_2).exp())


def discretized_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log p(x) where x was rounded to 256 levels on [-1, 1]; element-wise (Ho et al., 2020, eq. 13)."""
    centred, inverse = x - mean, (-log_scale).exp()
    above = _normal_cdf(inverse * (centred + 1 / 255))
    below = _normal_cdf(inverse * (centred - 1 / 255))
    tail = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return tail.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation that DiT's training uses, so that losses can be compared number by number."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
