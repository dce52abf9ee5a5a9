"""Sampling t or weighting the loss: one expected gradient, two variances.

    sampling   G = g(t),        t ~ p          E|G|^2 = sum_t p_t m_t
    weighting  G = T p_t g(t),  t ~ uniform    E|G|^2 = sum_t T p_t^2 m_t

g(t) is the gradient of one picture's loss at t and m_t = E|g(t)|^2 its mean squared length.  Both
have the mean sum_t p_t E[g(t)], so the difference of the variances is that of these two sums.
m_t is known exactly on a toy (a number times x_t as the denoiser) and measured on a network.
"""

from __future__ import annotations

import functools
from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from ...diffusion.losses import hybrid_loss
from ...diffusion.process import Diffusion
from ...diffusion.timestep_weights import loss_weights
from ...support.random import seeded_generator
from ...training.objective import Objective

FOLDED = 2**17  # numbers that stand for a gradient of millions


def second_moments(distribution: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """E|G|^2 of sampling t from `distribution`, and of weighting by T p_t under uniform t; `squares` is m_t, both (T,)."""
    return (distribution * squares).sum(), (loss_weights(distribution) * distribution * squares).sum()


def variance_ratio(distribution: Tensor, squares: Tensor, length: float = 0.0) -> float:
    """Variance of weighting over that of sampling; `length` is the squared length of the expected gradient."""
    sampling, weighting = second_moments(distribution, squares)
    return float((weighting - length) / (sampling - length))


def calmest_distribution(distribution: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """The distribution q ~ p sqrt(m) whose gradient p_t / q_t g(t) varies least, and its E|G|^2 = (sum_t p_t sqrt(m_t))^2.

    By Cauchy and Schwarz no q does better: sum p^2 m / q >= (sum p sqrt(m))^2.
    """
    pull = distribution * squares.sqrt()
    return pull / pull.sum(), pull.sum().square()


def toy_moments(diffusion: Diffusion, *, spread: float, theta: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the toy's gradient at each t; float64 (T,), (T,).

    Data are numbers x_0 ~ N(0, spread^2), the denoiser says eps = theta x_t, the loss is
    (theta x_t - eps)^2, so g = 2 (theta x_t - eps) x_t.  All are jointly Gaussian, and for two
    such numbers u, x of mean 0: E[u^2 x^2] = E[u^2] E[x^2] + 2 E[u x]^2 (Isserlis).
    """
    a = diffusion.alphas_cumprod
    variance, covariance = a * spread**2 + 1 - a, (1 - a).sqrt()  # of x_t; of x_t and eps
    residual = theta**2 * variance - 2 * theta * covariance + 1  # E[u^2], u = theta x_t - eps
    together = theta * variance - covariance  # E[u x_t]
    return 2 * together, 4 * (residual * variance + 2 * together.square())


def toy_comparison(diffusion: Diffusion, distribution: Tensor, *, spread: float, theta: float = 0.0) -> dict[str, tuple[float, float]]:
    """Mean and variance of the toy's gradient under "sampling" and "weighting", each summed over its own way."""
    mean, square = toy_moments(diffusion, spread=spread, theta=theta)
    means = {"sampling": float((distribution * mean).sum()), "weighting": float((loss_weights(distribution) * mean).mean())}
    return {name: (means[name], float(moment) - means[name] ** 2) for name, moment in zip(means, second_moments(distribution, square))}


def toy_gradients(diffusion: Diffusion, t: Tensor, *, spread: float, theta: float = 0.0, generator: torch.Generator) -> Tensor:
    """The toy's gradient for one draw of data and noise at each entry of t (N,); float64 (N,)."""
    x_0, noise = (torch.randn(len(t), generator=generator, dtype=torch.float64) for _ in range(2))
    a = diffusion.alphas_cumprod[t]
    x_t = a.sqrt() * spread * x_0 + (1 - a).sqrt() * noise
    return 2 * (theta * x_t - noise) * x_t


def squared_lengths(model: nn.Module, latents: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, diffusion: Diffusion, *,
                    each: int, seed: int = 0) -> Tensor:  # fmt: skip
    """|g|^2 of single pictures' hybrid losses, over all weights of the model; float64 (len(timesteps), each).

    Latents (N, C, h, w) and labels (N,) are drawn anew for every entry, and so is the noise.
    """
    device = next(model.parameters()).device
    found = []
    for t in torch.as_tensor(timesteps).tolist():
        generator = seeded_generator(seed, "squared lengths", t)
        picks = torch.randint(len(latents), (each,), generator=generator)
        noise = torch.randn(each, *latents.shape[1:], generator=generator)
        for pick, eps in zip(picks.split(1), noise.split(1)):
            x_0, eps, y = latents[pick].float().to(device), eps.to(device), labels[pick].to(device)
            at = torch.full((1,), t, device=device)
            x_t = diffusion.q_sample(x_0, at, eps)
            row = gradient(model, hybrid_loss(model(x_t, at, y), x_0, x_t, eps, at, diffusion).mean())
            found.append(float(torch.dot(row, row)))
    return torch.tensor(found, dtype=torch.float64).reshape(len(torch.as_tensor(timesteps)), each)


def compare_gradients(model: nn.Module, objectives: Sequence[Objective], stream: str, *, count: int) -> Tensor:
    """Inner products of minibatch gradients of one stream: [i, j, a, b] is that of gradient a of objective i and b of j.

    float64 (len(objectives), len(objectives), count, count).  Gradients of different minibatches
    are independent where the stream draws every picture anew (`picture_distribution`); those of one
    minibatch, [i, j, a, a], share pictures and noise.  They are kept folded to `FOLDED` numbers
    with random signs, which keeps inner products on average, and to about 1 / sqrt(FOLDED) of
    the product of the lengths each.
    """
    device = next(model.parameters()).device
    folded = torch.stack([
        torch.stack([fold(gradient(model, objective.losses(model, step, device)[stream])) for step in range(count)])
        for objective in objectives
    ]).cpu().double()  # (objectives, count, FOLDED)  # fmt: skip
    return torch.einsum("iaf,jbf->ijab", folded, folded)


def fold(row: Tensor) -> Tensor:
    """A long row (P,) with random signs, cut into pieces of `FOLDED` numbers that are added up; (FOLDED,)."""
    signs = _signs(len(row)).to(row.device)
    return nn.functional.pad(row * signs, (0, -len(row) % FOLDED)).reshape(-1, FOLDED).sum(0)


@functools.lru_cache(maxsize=1)
def _signs(length: int) -> Tensor:
    """+1 and -1 at random, the same for all rows of one length; int8 (length,)."""
    return torch.randint(2, (length,), generator=torch.Generator().manual_seed(length), dtype=torch.int8).mul_(2).sub_(1)


def variance(products: Tensor, which: int) -> Tensor:
    """Variance of a minibatch gradient of one objective, summed over its numbers; unbiased."""
    own = products[which, which]
    return own.diagonal().mean() - between(own)


def distance(products: Tensor, *, factor: float = 1.0) -> Tensor:
    """Squared distance of the expected gradients of objective 0 and `factor` times objective 1; unbiased, so it may be below 0."""
    apart = products[0, 0] - factor * (products[0, 1] + products[1, 0]) + factor**2 * products[1, 1]
    return between(apart)


def between(products: Tensor) -> Tensor:
    """Mean inner product of two different minibatches' gradients: the squared length of the expected one, unbiased."""
    count = len(products)
    return (products.sum() - products.diagonal().sum()) / (count * (count - 1))


def interval(statistic: Callable[[Tensor], Tensor], products: Tensor) -> tuple[float, float, float]:
    """A statistic of `compare_gradients` and its 95 % interval, by leaving out one minibatch at a time (jackknife)."""
    from scipy.stats import t

    count, value = products.shape[-1], float(statistic(products))
    keep = [[n for n in range(count) if n != left_out] for left_out in range(count)]
    without = torch.stack([statistic(products[:, :, rest][:, :, :, rest]) for rest in keep])
    error = float(((count - 1) / count * (without - without.mean()).square().sum()).sqrt())
    half = float(t.ppf(0.975, count - 1)) * error
    return value, value - half, value + half


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """The loss's gradient as one long row; weights that do not enter count as 0.  (P,)"""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    parts = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if part is None else part).flatten() for w, part in zip(weights, parts)])
