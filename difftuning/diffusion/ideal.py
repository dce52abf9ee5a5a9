"""The best denoisers there are for a finite set of pictures, in closed form: whole pictures, or window by window."""

from __future__ import annotations

import torch
from torch import Tensor

from .process import as_tensor, precise, require_finite, require_timesteps

NO_NOISE = 1e-12  # stands for 1 - a_t = 0, where the nearest picture is meant


def ideal_denoiser(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """E[x_0 | x_t] when x_0 is drawn uniformly from the finite set `data` (M, ...); shape of x_t (N, ...).

    Theorem 1 of the paper: the nearest member of the set as t -> 0, the set's mean as t -> T.
    `t` is an int or (N,).
    """
    weights = posterior_weights(x_t, t, data, alphas_cumprod)
    return (weights @ _rows(data, x_t.device)).reshape(x_t.shape).to(x_t.dtype)


def posterior_weights(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """p(x_0 = data[i] | x_t): a softmax over -||x_t - sqrt(a_t) data[i]||^2 / (2 (1 - a_t)); float64 (N, M)."""
    return _weights(x_t, _signal(x_t, t, data, alphas_cumprod), data)


def _signal(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """a_t of each x_t, (N, 1) or (1, 1), once all arguments were found right."""
    if x_t.shape[1:] != data.shape[1:] or len(data) == 0:
        raise ValueError(f"data must be (M, {', '.join(map(str, x_t.shape[1:]))}) with M > 0, got {tuple(data.shape)}")
    require_finite("x_t", x_t)
    require_finite("data", data)
    times, alphas_cumprod = as_tensor(t), as_tensor(alphas_cumprod).cpu()
    if len(x_t):
        require_timesteps(times, len(alphas_cumprod))
    return alphas_cumprod[times.cpu().long()].to(precise(x_t.device)).to(x_t.device).reshape(-1, 1)


def _weights(x_t: Tensor, a: Tensor, data: Tensor) -> Tensor:
    if len(x_t) == 0:
        return torch.empty(0, len(data), dtype=precise(x_t.device), device=x_t.device)
    points, queries = _rows(data, x_t.device), _rows(x_t, x_t.device)  # (M, D), (N, D)
    # Expanded square without ||x_t||^2, which every member shares.
    exponent = (2 * a.sqrt() * (queries @ points.T) - a * points.square().sum(1)) / (2 * (1 - a).clamp(min=NO_NOISE))  # (N, M)
    return exponent.softmax(1)


def _rows(pictures: Tensor, device: torch.device) -> Tensor:
    """Each picture's numbers in a row, float64 where the device has it, (N, D); numbers alone are pictures of one."""
    return pictures.reshape(len(pictures), -1).to(precise(device)).to(device)


def patch_denoiser(x_t: Tensor, t: int | Tensor, data: Tensor, alphas_cumprod: Tensor, size: int) -> Tensor:
    """Ideal denoising cell by cell: E[x_0 there | the size x size window of x_t around it]; shape of x_t (N, C, h, w).

    The windows of `data` (M, C, h, w) are compared place by place, cut off at the borders.  An
    odd `size` of at least 2 max(h, w) - 1 sees everything: then it is `ideal_denoiser`.
    (The local denoiser of Kamb and Ganguli, ICML 2025, without their shifts.)
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a window has a middle, so its size is odd and at least 1, got {size}")
    a, denoised = _signal(x_t, t, data, alphas_cumprod), torch.empty_like(x_t)
    for row in range(x_t.shape[2]):
        for column in range(x_t.shape[3]):
            window = (..., *(slice(max(0, place - size // 2), place + size // 2 + 1) for place in (row, column)))
            weights = _weights(x_t[window], a, data[window])
            denoised[..., row, column] = (weights @ data[..., row, column].to(weights.dtype).to(x_t.device)).to(x_t.dtype)
    return denoised
