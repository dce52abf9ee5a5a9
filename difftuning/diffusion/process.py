"""The forward process and its conversions between x_0, x_t, noise and velocity.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps,     a_t = alphas_cumprod[t]

Tables are float64; what is applied to images or latents is computed from them in float32, or in float64 where those are float64.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from torch import Tensor


def precise(device: torch.device) -> torch.dtype:
    """Float64 where a device is known to have it, else float32: Apple's (mps) has none."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


def as_tensor(values: Tensor | float | Sequence) -> Tensor:
    """A tensor as it is; plain numbers as one of float64 or int64 on the CPU, whatever torch's defaults are."""
    return values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))


class Diffusion:
    """A discrete-time forward process over T = len(betas) timesteps, 0 = least noise.

    Attributes (float64, shape (T,)): `betas`, `alphas_cumprod`, `snr` = a_t / (1 - a_t).
    The default is DiT's and DDPM's linear schedule, 1e-4 to 0.02 in 1000 steps.
    """

    def __init__(self, betas: Tensor | None = None):
        if betas is None:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64, device="cpu")
        betas = as_tensor(betas).detach().cpu().double()
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError(f"betas must be a non-empty row of numbers in (0, 1], got shape {tuple(betas.shape)}")
        self.betas = betas
        self.num_timesteps = len(betas)
        self.alphas_cumprod = (1 - betas).cumprod(0)
        self.snr = self.alphas_cumprod / (1 - self.alphas_cumprod)
        self._tables = self._derived_tables()
        self._applied: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        return f"<Diffusion: {self.num_timesteps} timesteps, betas {float(self.betas[0]):.2g} to {float(self.betas[-1]):.2g}>"

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
            tables = {key: table.to(precision).to(like.device) for key, table in self._tables.items()}
            self._applied[like.device, precision] = tables
        t = as_tensor(t)
        if t.device.type == "cpu" or t.is_floating_point():  # a look at numbers on a GPU would wait for it
            require_timesteps(t, self.num_timesteps)
        t = t.to(like.device)
        return tables[name][t].reshape(-1, *[1] * (like.ndim - 1))

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t from x_0 and unit noise of the same shape; t is an int or int64 (N,)."""
        require_shape("noise", noise, x_0)
        return self.at("signal", t, x_0) * x_0 + self.at("noise", t, x_0) * noise

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_0 = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t), in the shape of x_t."""
        return (x_t - self.at("noise", t, x_t) * eps) / self.at("signal", t, x_t)

    def predict_eps(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """eps = (x_t - sqrt(a_t) x_0) / sqrt(1 - a_t), in the shape of x_t."""
        return (x_t - self.at("signal", t, x_t) * x_0) / self.at("noise", t, x_t)

    def velocity(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = sqrt(a_t) eps - sqrt(1 - a_t) x_0 (Salimans and Ho, ICLR 2022)."""
        return self.at("signal", t, x_0) * noise - self.at("noise", t, x_0) * x_0

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean of q(x_{t-1} | x_t, x_0) (Ho et al., NeurIPS 2020, eq. 7)."""
        return self.at("mean_x_0", t, x_t) * x_0 + self.at("mean_x_t", t, x_t) * x_t


def matched_snr_scale(side: int) -> float:
    """(32 / side)^2: what the SNR of the linear schedule, made for latents of side 32, is multiplied by to fit another side."""
    return (32 / side) ** 2


def scale_snr(betas: Tensor, factor: float) -> Tensor:
    """Betas whose signal-to-noise ratio at every t is `factor` times that of `betas`; float64 (T,).

    A schedule made for one picture size fits another when the SNR grows by the squared ratio of the
    sides: averaging over more pixels hides less (Hoogeboom et al. 2023, "simple diffusion").
    """
    kept = (1 - betas.double()).cumprod(0)
    snr = factor * kept / (1 - kept)
    kept = snr / (1 + snr)
    return 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])


def require_timesteps(t: Tensor, num_timesteps: int) -> None:
    """ValueError unless all timesteps are whole numbers in 0..T-1; negative ones would count from the end."""
    if t.is_floating_point() or (t.numel() and not 0 <= int(t.min()) <= int(t.max()) < num_timesteps):
        raise ValueError(f"timesteps must be whole numbers in 0..{num_timesteps - 1}, got {t.flatten()[:8].tolist()}")


def require_finite(role: str, tensor: Tensor) -> None:
    """ValueError where a tensor holds NaN or infinity, which would spread into everything that is made from it."""
    if not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise ValueError(f"{role} must be finite: {bad} of {tensor.numel()} numbers are NaN or infinity")


def require_shape(name: str, tensor: Tensor, x_0: Tensor) -> None:
    """ValueError where a tensor has another shape than x_0: it would broadcast into numbers that mean nothing."""
    if tensor.shape != x_0.shape:
        raise ValueError(f"{name} must have the shape of x_0, {tuple(x_0.shape)}, got {tuple(tensor.shape)}")
