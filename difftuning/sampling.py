"""One sampler for everything: DDPM, DDIM and DPM-Solver++ through diffusers' schedulers.

    eps = u + w (c - u)       c: the model under its labels, u: the guide under its null label

All latent channels are guided, as in diffusers; the published DiT code guides the first three of four.

The guide is the model itself (classifier-free guidance, Ho and Salimans 2022) or another
one, such as the untouched pre-trained model (Domain Guidance, Zhong et al., ICLR 2025).
Every sample's noise comes from its own seed, so a picture does not depend on its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Literal, Sequence, get_args

import torch
from torch import Tensor

from .pretrained import Pretrained
from .progress import progress_bar
from .settings import plain

Sampler = Literal["ddim", "ddpm", "dpm++"]


@dataclass(frozen=True)
class SamplingStep:
    """What a callback sees before each reverse step: the timestep, the state there, the estimate of x_0."""

    t: int
    x_t: Tensor  # (n, C, h, w), before the step
    x_0: Tensor  # (n, C, h, w), the model's estimate at t


def sample(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, steps: int = 50, sampler: Sampler = "ddim",
           guidance: float = 1.5, guide: Pretrained | None = None, start: tuple[Tensor, int] | None = None,
           switch_to: Pretrained | None = None, switch_at: int | None = None, seed: int = 0,
           generator: torch.Generator | None = None, batch_size: int = 250, progress: bool = False,
           callback: Callable[[SamplingStep], None] | None = None) -> Tensor:  # fmt: skip
    """Images (N, 3, H, W) in [-1, 1], one for each label.

    `labels` are rows of the model's label table (its null label included) or names out of
    `label_names`.  `guidance` 1 uses the conditional branch alone.  `start` = (x_t, t)
    begins at a given state, with the step length of the whole chain.  `switch_to` takes
    over where t < `switch_at`, unguided and under its own null label.
    """
    latents = sample_latents(
        model, labels, steps=steps, sampler=sampler, guidance=guidance, guide=guide, start=start, switch_to=switch_to,
        switch_at=switch_at, seed=seed, generator=generator, batch_size=batch_size, progress=progress, callback=callback,
    )  # fmt: skip
    return torch.cat([model.decode(part).cpu() for part in latents.split(batch_size)])


@torch.no_grad()
def sample_latents(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, steps: int = 50,
                   sampler: Sampler = "ddim", guidance: float = 1.5, guide: Pretrained | None = None,
                   start: tuple[Tensor, int] | None = None, switch_to: Pretrained | None = None,
                   switch_at: int | None = None, seed: int = 0, generator: torch.Generator | None = None,
                   batch_size: int = 250, progress: bool = False,
                   callback: Callable[[SamplingStep], None] | None = None) -> Tensor:  # fmt: skip
    """`sample` without the last decoding: scaled latents (N, C, h, w) on the CPU."""
    if not isinstance(model, Pretrained):
        hint = ": pass its .model" if isinstance(getattr(model, "model", None), Pretrained) else ""
        raise TypeError(f"a Pretrained is sampled, not a {type(model).__name__}{hint}")
    labels, seed = label_rows(model, labels), plain("seed", "int", seed)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must fit into 64 bits, got {seed}")
    _check(model, labels, steps, sampler, guidance, guide, start, switch_to, switch_at)
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(labels),), generator=generator, device=generator.device).tolist()
    batches = []
    for first in progress_bar(range(0, len(labels), batch_size), "sampling", shown=progress):
        part = slice(first, first + batch_size)
        noise = [torch.Generator().manual_seed(s) for s in seeds[part]]
        if start is None:
            x, t = torch.stack([torch.randn(model.latent_shape, generator=g) for g in noise]), None
        else:
            x, t = start[0][part], int(start[1])
        scheduler, timesteps = _schedule(model, sampler, steps, t)
        predict = _predictor(model, labels[part].to(model.device), guidance, guide, switch_to, switch_at)
        batches.append(_reverse(scheduler, timesteps, x.to(model.device), predict, noise, model, callback).cpu())
    return torch.cat(batches) if batches else torch.empty(0, *model.latent_shape)


def label_rows(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str]) -> Tensor:
    """Labels as int64 rows (N,) of the model's table; names are looked up in `label_names`."""
    if isinstance(labels, str):
        labels = [labels]
    if not isinstance(labels, Tensor) and any(isinstance(label, str) for label in labels):
        unknown = [label for label in labels if label not in model.label_names]
        if unknown:
            raise ValueError(f"unknown label {unknown[0]!r}: this model's names are in label_names")
        labels = [model.label_names.index(label) for label in labels]
    labels = torch.as_tensor(labels).reshape(-1).cpu()
    if labels.numel() and labels.is_floating_point():
        raise ValueError(f"labels are whole numbers or names, got {labels[0].item()}")
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= model.null_label:
        bad = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise ValueError(f"label {bad} is outside 0..{model.null_label} (the null label)")
    return labels


def _schedule(model: Pretrained, sampler: Sampler, steps: int, start: int | None):
    """A diffusers scheduler and its descending timesteps, spaced T // steps apart and ending at 0.

    From pure noise that is diffusers' "leading" spacing; from a given t it begins there.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    T = model.diffusion.num_timesteps
    common = {"num_train_timesteps": T, "trained_betas": model.diffusion.betas.tolist()}
    stride = T // steps
    timesteps = list(range((steps - 1) * stride if start is None else start, -1, -stride))
    if sampler == "ddim":
        scheduler = DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
        scheduler.set_timesteps(steps)
    elif sampler == "ddpm":
        scheduler = DDPMScheduler(**common, clip_sample=False, variance_type="learned_range")
        scheduler.set_timesteps(timesteps=timesteps)  # it looks its next timestep up among them
    else:
        scheduler = DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero")
        scheduler.set_timesteps(timesteps=timesteps)
    return scheduler, timesteps


def _predictor(model: Pretrained, labels: Tensor, guidance: float, guide: Pretrained | None,
               switch_to: Pretrained | None, switch_at: int | None) -> Callable[[Tensor, int], Tensor]:  # fmt: skip
    """(x_t, t) -> noise and variance (n, 2C, h, w), guided, by whichever model is in charge at t."""

    def nulls(other: Pretrained) -> Tensor:
        return torch.full_like(labels, other.null_label)

    def predict(x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        if switch_to is not None and t < switch_at:
            return switch_to.predict(x, times, nulls(switch_to))
        if guidance == 1:
            return model.predict(x, times, labels)
        if guide is None:
            both = model.predict(torch.cat([x, x]), torch.cat([times, times]), torch.cat([labels, nulls(model)]))
            conditional, unconditional = both.chunk(2)
        else:
            conditional = model.predict(x, times, labels)
            unconditional = guide.predict(x, times, nulls(guide))
        (c, variance), u = conditional.chunk(2, dim=1), unconditional.chunk(2, dim=1)[0]
        return torch.cat([u + guidance * (c - u), variance], dim=1)  # the variance is the conditional branch's

    return predict


def _reverse(scheduler, timesteps: list[int], x: Tensor, predict, noise: list[torch.Generator], model: Pretrained, callback) -> Tensor:
    learned_variance = getattr(scheduler.config, "variance_type", None) == "learned_range"
    for t in timesteps:
        output = predict(x, t)  # (n, 2C, h, w)
        eps = output.chunk(2, dim=1)[0]
        if callback is not None:
            callback(SamplingStep(t, x.cpu(), model.diffusion.predict_x0(x, t, eps).cpu()))
        if learned_variance and t == timesteps[-1] > 0:  # the mean of the last step; diffusers would add noise to it wherever t > 0
            x = model.diffusion.predict_x0(x, t, eps)
            continue
        options = {"generator": noise} if learned_variance else {}
        x = scheduler.step(output if learned_variance else eps, t, x, **options).prev_sample
    return x


def _check(model, labels, steps, sampler, guidance, guide, start, switch_to, switch_at) -> None:
    T = model.diffusion.num_timesteps
    if sampler not in get_args(Sampler):
        raise ValueError(f"unknown sampler {sampler!r}: choose one of {', '.join(get_args(Sampler))}")
    if not math.isfinite(guidance):
        raise ValueError(f"guidance must be a finite number, got {guidance}")
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and {T}, got {steps}")
    stride = T // steps
    if steps * stride < 0.95 * T:  # the chain would begin in the middle, where x_t is not pure noise
        raise ValueError(f"{steps} steps of {stride} do not span {T} timesteps: use {T // (stride + 1)} or {T // stride}")
    for role, other in (("guide", guide), ("switch_to", switch_to)):
        if other is None:
            continue
        if other.latent_shape != model.latent_shape:
            raise ValueError(f"{role} works on latents {other.latent_shape}, the model on {model.latent_shape}")
        if other.diffusion.num_timesteps != T or not torch.allclose(other.diffusion.betas, model.diffusion.betas):
            raise ValueError(f"{role} has another forward process (betas) than the model: one state cannot serve both")
        if other.device != model.device:
            raise ValueError(f"{role} is on {other.device}, the model on {model.device}: move one of them with .to()")
    if (switch_to is None) != (switch_at is None):
        raise ValueError("switch_to and switch_at go together: the model that takes over, and below which t")
    if switch_at is not None and not 0 <= switch_at <= T:
        raise ValueError(f"switch_at must be between 0 and {T}, got {switch_at}")
    if start is not None:
        x, t = start
        if tuple(x.shape) != (len(labels), *model.latent_shape):
            raise ValueError(f"start must hold latents {(len(labels), *model.latent_shape)}, got {tuple(x.shape)}")
        if not 0 <= plain("start's timestep", "int", t.item() if isinstance(t, Tensor) else t) < T:
            raise ValueError(f"start's timestep must be between 0 and {T - 1}, got {int(t)}")
