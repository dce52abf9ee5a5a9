"""The forward process, its conversions, the hybrid loss and the closed-form ideal denoiser.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps,     a_t = alphas_cumprod[t]

Tables are float64; what is applied to images or latents is computed from them in float32, or in float64 where those are float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NO_NOISE = 1e-12  # stands for 1 - a_t = 0, where the nearest picture is meant


class Diffusion:
    """A discrete-time forward process over T = len(betas) timesteps, 0 = least noise.

    Attributes (float64, shape (T,)): `betas`, `alphas_cumprod`, `snr` = a_t / (1 - a_t).
    The default is DiT's and DDPM's linear schedule, 1e-4 to 0.02 in 1000 steps.
    """

    def __init__(self, betas: Tensor | None = None):
        if betas is None:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        betas = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError(f"betas must be a non-empty row of numbers in (0, 1], got shape {tuple(betas.shape)}")
        self.betas = betas
        self.num_timesteps = len(betas)
        self.alphas_cumprod = (1 - betas).cumprod(0)
        self.snr = self.alphas_cumprod / (1 - self.alphas_cumprod)
        self._tables = self._derived_tables()
        self._applied: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def _derived_tables(self) -> dict[str, Tensor]:
        """Everything gathered per sample, in float64 first: 1 - a_t loses half its digits in float32."""
        a, betas = self.alphas_cumprod, self.betas
        previous = torch.cat([a.new_ones(1), a[:-1]])
        variance = betas * (1 - previous) / (1 - a)  # of q(x_{t-1} | x_t, x_0); 0 at t = 0
        clipped = torch.cat([variance[1:2], variance[1:]]) if self.num_timesteps > 1 else betas
        return {
            "signal": a.sqrt(),
            "noise": (1 - a).sqrt(),
            "log_beta": betas.log(),
            "log_variance": clipped.log(),
            "mean_x_0": betas * previous.sqrt() / (1 - a),
            "mean_x_t": (1 - previous) * (1 - betas).sqrt() / (1 - a),
        }

    def at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """A derived table's entries at t, float32 (float64 for a float64 `like`), shaped (N, 1, ..., 1) to broadcast over `like`."""
        precision = torch.float64 if like.dtype == torch.float64 else torch.float32
        tables = self._applied.get((like.device, precision))
        if tables is None:
            tables = {key: table.to(like.device, precision) for key, table in self._tables.items()}
            self._applied[like.device, precision] = tables
        t = torch.as_tensor(t)
        if t.numel() not in (1, len(like)):
            raise ValueError(f"one timestep for all, or one for each of {len(like)}: got {t.numel()}")
        if t.device.type == "cpu" or t.is_floating_point():  # a look at numbers on a GPU would wait for it
            _require_timesteps(t, self.num_timesteps)
        t = t.to(like.device)
        return tables[name][t].reshape(-1, *[1] * (like.ndim - 1))

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t from x_0 and unit noise of the same shape; t is an int or int64 (N,)."""
        _require_shape("noise", noise, x_0)
        return self.at("signal", t, x_0) * x_0 + self.at("noise", t, x_0) * noise

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return (x_t - self.at("noise", t, x_t) * eps) / self.at("signal", t, x_t)

    def predict_eps(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        return (x_t - self.at("signal", t, x_t) * x_0) / self.at("noise", t, x_t)

    def velocity(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = sqrt(a_t) eps - sqrt(1 - a_t) x_0 (Salimans and Ho, ICLR 2022)."""
        return self.at("signal", t, x_0) * noise - self.at("noise", t, x_0) * x_0

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean of q(x_{t-1} | x_t, x_0) (Ho et al., NeurIPS 2020, eq. 7)."""
        return self.at("mean_x_0", t, x_t) * x_0 + self.at("mean_x_t", t, x_t) * x_t


def _require_timesteps(t: Tensor, num_timesteps: int) -> None:
    if t.is_floating_point() or (t.numel() and not 0 <= int(t.min()) <= int(t.max()) < num_timesteps):
        raise ValueError(f"timesteps must be whole numbers in 0..{num_timesteps - 1}, got {t.flatten()[:8].tolist()}")


def _require_shape(name: str, tensor: Tensor, x_0: Tensor) -> None:
    """Other shapes would broadcast into numbers that mean nothing."""
    if tensor.shape != x_0.shape:
        raise ValueError(f"{name} must have the shape of x_0, {tuple(x_0.shape)}, got {tuple(tensor.shape)}")


def eps_loss(model_output: Tensor, noise: Tensor) -> Tensor:
    """||eps - eps_theta||^2 averaged over each sample's numbers; (N,).  A learned variance is left out."""
    eps = model_output[:, : noise.shape[1]]
    return (eps.float() - noise).square().flatten(1).mean(1)


def hybrid_loss(model_output: Tensor, x_0: Tensor, x_t: Tensor, noise: Tensor, t: Tensor, diffusion: Diffusion) -> Tensor:
    """eps-MSE plus the variational bound that trains the learned variance; (N,).

    `model_output` is (N, 2C, h, w): the noise, then the variance as a fraction in [-1, 1]
    between its two bounds (Nichol and Dhariwal, ICML 2021, eq. 15-16).
    """
    expected = (x_0.shape[0], 2 * x_0.shape[1], *x_0.shape[2:])
    if tuple(model_output.shape) != expected:
        raise ValueError(f"model_output must be {expected} (noise and variance), got {tuple(model_output.shape)}")
    _require_shape("x_t", x_t, x_0)
    _require_shape("noise", noise, x_0)
    eps, variance = model_output.float().chunk(2, dim=1)
    bound = variational_bound(eps.detach(), variance, x_0, x_t, t, diffusion)
    return eps_loss(eps, noise) + bound


def variational_bound(eps: Tensor, variance: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, diffusion: Diffusion) -> Tensor:
    """L_t of the variational bound in bits per number; (N,).  At t = 0 it is the decoder's likelihood."""
    lower, upper = diffusion.at("log_variance", t, x_t), diffusion.at("log_beta", t, x_t)
    fraction = (variance + 1) / 2
    log_variance = fraction * upper + (1 - fraction) * lower
    true_mean = diffusion.posterior_mean(x_0, x_t, t)
    mean = diffusion.posterior_mean(diffusion.predict_x0(x_t, t, eps), x_t, t)
    divergence = 0.5 * (log_variance - lower - 1 + (lower - log_variance).exp() + (true_mean - mean).square() * (-log_variance).exp())
    likelihood = -discretized_gaussian_log_likelihood(x_0, mean, 0.5 * log_variance)
    first = torch.as_tensor(t, device=x_t.device).eq(0)
    return torch.where(first, likelihood.flatten(1).mean(1), divergence.flatten(1).mean(1)) / math.log(2)


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


def ideal_denoiser(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """E[x_0 | x_t] when x_0 is drawn uniformly from the finite set `data` (M, ...); shape of x_t (N, ...).

    Theorem 1 of the paper: the nearest member of the set as t -> 0, the set's mean as t -> T.
    `t` is an int or (N,).
    """
    weights = posterior_weights(x_t, t, data, alphas_cumprod)
    return (weights @ _rows(data.to(x_t.device))).reshape(x_t.shape).to(x_t.dtype)


def posterior_weights(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """p(x_0 = data[i] | x_t): a softmax over -||x_t - sqrt(a_t) data[i]||^2 / (2 (1 - a_t)); float64 (N, M)."""
    if x_t.shape[1:] != data.shape[1:] or len(data) == 0:
        raise ValueError(f"data must be (M, {', '.join(map(str, x_t.shape[1:]))}) with M > 0, got {tuple(data.shape)}")
    times, alphas_cumprod = torch.as_tensor(t), torch.as_tensor(alphas_cumprod)
    if len(x_t) == 0:
        return torch.empty(0, len(data), dtype=torch.float64, device=x_t.device)
    _require_timesteps(times, len(alphas_cumprod))
    a = alphas_cumprod.to(x_t.device)[times.to(x_t.device)].double().reshape(-1, 1)
    points, queries = _rows(data.to(x_t.device)), _rows(x_t)  # (M, D), (N, D)
    # Expanded square without ||x_t||^2, which every member shares.
    exponent = (2 * a.sqrt() * (queries @ points.T) - a * points.square().sum(1)) / (2 * (1 - a).clamp(min=NO_NOISE))  # (N, M)
    return exponent.softmax(1)


def _rows(pictures: Tensor) -> Tensor:
    """Each picture's numbers in a row, float64 (N, D); numbers alone are pictures of one."""
    return pictures.reshape(len(pictures), -1).double()


def patch_denoiser(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor, size: int) -> Tensor:
    """Ideal denoising cell by cell: E[x_0 there | the size x size window of x_t around it]; shape of x_t (N, C, h, w).

    The windows of `data` (M, C, h, w) are compared place by place, cut off at the borders.  An
    odd `size` of at least 2 max(h, w) - 1 sees everything: then it is `ideal_denoiser`.
    (The local denoiser of Kamb and Ganguli, ICML 2025, without their shifts.)
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a window has a middle, so its size is odd and at least 1, got {size}")
    denoised = torch.empty_like(x_t)
    for row in range(x_t.shape[2]):
        for column in range(x_t.shape[3]):
            window = (..., *(slice(max(0, place - size // 2), place + size // 2 + 1) for place in (row, column)))
            weights = posterior_weights(x_t[window], t, data[window], alphas_cumprod)
            denoised[..., row, column] = (weights @ data[..., row, column].to(x_t.device).double()).to(x_t.dtype)
    return denoised
