"""One sampler for everything: DDPM, DDIM and DPM-Solver++ through diffusers' schedulers.

    eps = u + w (c - u)       c: the model under its labels, u: the guide under its null label

All latent channels are guided, as in diffusers; the published DiT code guides the first three of four.

The guide is the model itself (classifier-free guidance, Ho and Salimans 2022) or another
one, such as the untouched pre-trained model (Domain Guidance, Zhong et al., ICLR 2025).
Every sample's noise comes from its own seed, so a picture does not depend on its batch.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Callable, Sequence, get_args

import torch
from torch import Tensor

from .config import Sampler
from .diffusion.process import require_finite
from .models.controlnet import require_controls
from .models.pretrained import Pretrained, require_model
from .support.names import one_form
from .support.progress import LONG, progress_bar
from .support.settings import plain
from .support.surroundings import undisturbed


@dataclass(frozen=True)
class SamplingStep:
    """What a callback sees before each reverse step: the timestep, the state there, the estimate of x_0."""

    t: int
    x_t: Tensor  # (n, C, h, w), before the step
    x_0: Tensor  # (n, C, h, w), the model's estimate at t


@undisturbed
def sample(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, steps: int = 50, sampler: Sampler = "ddim",
           guidance: float = 1.5, guide: Pretrained | None = None, start: tuple[Tensor, int] | None = None,
           switch_to: Pretrained | None = None, switch_at: int | None = None, seed: int = 0,
           generator: torch.Generator | None = None, conditions: dict[str, Tensor] | None = None,
           null_conditions: dict[str, Tensor] | None = None, batch_size: int = 250, progress: bool = True,
           callback: Callable[[SamplingStep], None] | None = None) -> Tensor:  # fmt: skip
    """Images (N, 3, H, W) in [-1, 1], one for each label.

    `labels` are rows of the model's label table (its null label included) or names out of
    `label_names`; a text-to-image model takes prompts in their place.  `guidance` 1 uses the conditional branch alone.  `start` = (x_t, t)
    begins at a given state, with the step length of the whole chain.  `switch_to` takes
    over where t < `switch_at`, unguided and under its own null label.  `conditions` (each (N, ...)) are told to the
    model beside the labels; the branch that guides gets `null_conditions` (each (...)) in place of those it names.
    A bar shows where it takes more than a few seconds.
    """
    latents = sample_latents(
        model, labels, steps=steps, sampler=sampler, guidance=guidance, guide=guide, start=start, switch_to=switch_to,
        switch_at=switch_at, seed=seed, generator=generator, conditions=conditions, null_conditions=null_conditions,
        batch_size=batch_size, progress=progress, callback=callback,
    )  # fmt: skip
    return torch.cat([model.decode(part).cpu() for part in latents.split(batch_size)])


@undisturbed
def sample_controlnet(model: Pretrained, prompts: str | Sequence[str], conditions: Tensor, *, steps: int = 50,
                      sampler: Sampler = "ddim", guidance: float = 1.5, seed: int = 0, generator: torch.Generator | None = None,
                      batch_size: int = 250, progress: bool = True,
                      callback: Callable[[SamplingStep], None] | None = None) -> Tensor:  # fmt: skip
    """Images (N, 3, H, W) in [-1, 1] that follow the condition pictures `conditions` (N, 3, H, W), float in [0, 1], as `annotate` gives them.

    `prompts` is one for each, or one for all.  Guidance moves away from the empty prompt under the same condition, as in
    stock StableDiffusionControlNetPipeline; Stable Diffusion is usually sampled at 7.5.  ValueError, before any drawing, for a
    model without ControlNet and conditions of another number, size or range.
    """
    require_model("model", model)
    if isinstance(prompts, str):
        prompts = [prompts] * len(conditions)
    require_controls(model, conditions, len(prompts))
    return sample(
        model, prompts, steps=steps, sampler=sampler, guidance=guidance, seed=seed, generator=generator,
        conditions={"control": conditions}, batch_size=batch_size, progress=progress, callback=callback,
    )  # fmt: skip


@undisturbed
@torch.no_grad()
def sample_latents(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, steps: int = 50,
                   sampler: Sampler = "ddim", guidance: float = 1.5, guide: Pretrained | None = None,
                   start: tuple[Tensor, int] | None = None, switch_to: Pretrained | None = None,
                   switch_at: int | None = None, seed: int = 0, generator: torch.Generator | None = None,
                   conditions: dict[str, Tensor] | None = None, null_conditions: dict[str, Tensor] | None = None,
                   batch_size: int = 250, progress: bool = False,
                   callback: Callable[[SamplingStep], None] | None = None) -> Tensor:  # fmt: skip
    """`sample` without the last decoding: scaled latents (N, C, h, w) on the CPU."""
    require_model("model", model)
    steps, seed, batch_size = plain("steps", "int", steps), plain("seed", "int", seed), plain("batch_size", "int", batch_size)
    guidance, switch_at = plain("guidance", "float", guidance), plain("switch_at", "int | None", switch_at)
    _check_numbers(model, steps, sampler, guidance, batch_size, generator)
    _check_partners(model, guide, switch_to, switch_at)
    conditions, null_conditions = conditions or {}, null_conditions or {}
    if model.takes_prompts:
        labels, conditions, null_conditions = _heard_prompts(model, labels, conditions, null_conditions)
    labels = label_rows(model, labels)
    start = _checked_start(model, labels, start)
    _check_conditions(labels, conditions, null_conditions)
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(labels),), generator=generator, device=generator.device).tolist()
    offset = model.scheduler.config.get("steps_offset", 0)
    timesteps = reverse_timesteps(model.diffusion.num_timesteps, steps, None if start is None else start[1], offset)
    firsts, batches = range(0, len(labels), batch_size), []
    with progress_bar(None, "sampling", total=len(firsts) * len(timesteps), shown=progress, delay=LONG) as bar:
        for first in firsts:
            part = slice(first, first + batch_size)
            noise = [torch.Generator().manual_seed(s) for s in seeds[part]]
            x = torch.stack([torch.randn(model.latent_shape, generator=g) for g in noise]) if start is None else start[0][part]
            told = {name: tensor[part].to(model.device) for name, tensor in conditions.items()}
            predict = _predictor(model, labels[part].to(model.device), told, null_conditions, guidance, guide, switch_to, switch_at)
            step = _stepper(model, sampler, timesteps, noise)
            x = x.to(model.device)
            for place, t in enumerate(timesteps):
                output = predict(x, t)
                if callback is not None:
                    callback(SamplingStep(t, x.cpu(), model.diffusion.predict_x0(x, t, output[:, : x.shape[1]]).cpu()))
                x = step(output, place, x)
                bar.update()
            if not x.isfinite().all():
                raise FloatingPointError(f"{model.name} drew NaN or infinity: its weights have diverged, or overflow in {model.dtype}")
            batches.append(x.cpu())
    return torch.cat(batches) if batches else torch.empty(0, *model.latent_shape)


def _heard_prompts(model: Pretrained, prompts: Tensor | Sequence[str], conditions: dict[str, Tensor],
                   null_conditions: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Null labels, and the prompts' embeddings among the conditions; guided by the empty prompt, which the null label stands for, too."""
    if isinstance(prompts, Tensor) and bool((prompts == model.null_label).all()):
        prompts = [""] * len(prompts)
    prompts = require_prompts(model, prompts)
    text, empty = {"text": model.denoiser.embed(prompts)}, {"text": model.denoiser.embed([""])[0]}
    return torch.full((len(prompts),), model.null_label), text | conditions, empty | null_conditions


def require_prompts(model: Pretrained, prompts: str | Sequence[str]) -> list[str]:
    """Prompts as a list; ValueError where they are none, or the model hears none."""
    if not model.takes_prompts:
        raise ValueError(f"{model.name} takes labels, no prompts: it is no text-to-image model")
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    wrong = [prompt for prompt in prompts if not isinstance(prompt, str)]
    if wrong:
        raise ValueError(f"{model.name} is told what to draw by prompts, got {wrong[0]!r:.60}: give a list of sentences")
    return prompts


@undisturbed
def label_rows(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str]) -> Tensor:
    """Labels as int64 rows (N,) of the model's table; names are looked up in `label_names`."""
    if isinstance(labels, (str, numbers.Integral)):
        labels = [labels]
    if isinstance(labels, Sequence) and any(isinstance(label, str) for label in labels):
        names = [one_form(name) for name in model.label_names]
        unknown = [label for label in labels if isinstance(label, str) and one_form(label) not in names]
        if unknown:
            raise ValueError(f"unknown label {unknown[0]!r}: this model's names are in label_names")
        labels = [names.index(one_form(label)) if isinstance(label, str) else label for label in labels]
    try:
        rows = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"labels are whole numbers or names, one for each picture, got {labels!r:.80}") from None
    if rows.numel() and (rows.dtype.is_floating_point or rows.dtype.is_complex or rows.dtype == torch.bool):
        raise ValueError(f"labels are whole numbers or names, got {rows.flatten()[0].item()}")
    if rows.ndim > 1:
        raise ValueError(f"labels are one for each picture, (N,), got shape {tuple(rows.shape)}")
    rows = rows.reshape(-1).long()
    outside = rows[(rows < 0) | (rows > model.null_label)]
    if len(outside):
        raise ValueError(f"label {int(outside[0])} is outside 0..{model.null_label} (the null label)")
    return rows


def reverse_timesteps(num_timesteps: int, steps: int, start: int | None = None, offset: int = 0) -> list[int]:
    """Descending timesteps, T // steps apart and ending at 0; from pure noise they are diffusers' "leading" ones.

    `offset` is diffusers' `steps_offset`: from pure noise all are later by so much (1 in Stable Diffusion), where T allows it.
    """
    stride = num_timesteps // steps
    if start is None:
        start = (steps - 1) * stride
        start += offset if start + offset < num_timesteps else 0
    return list(range(start, -1, -stride))


def ddim_step(x_t: Tensor, eps: Tensor, signal: Tensor, signal_next: Tensor) -> Tensor:
    """x_t taken to the next, less noisy timestep without new noise (Song et al., ICLR 2021, eq. 12 with sigma = 0).

    `signal` is a_t, the share of the picture's variance that is left at t (alphas_cumprod); `signal_next` that at the next t.
    """
    x_0 = (x_t - (1 - signal).sqrt() * eps) / signal.sqrt()
    return signal_next.sqrt() * x_0 + (1 - signal_next).sqrt() * eps


def _stepper(
    model: Pretrained, sampler: Sampler, timesteps: list[int], noise: list[torch.Generator]
) -> Callable[[Tensor, int, Tensor], Tensor]:
    """(output, place in `timesteps`, x_t) -> x at the next timestep."""
    if sampler == "ddim":
        kept = model.diffusion.alphas_cumprod.float()
        last = kept.new_ones(()) if model.scheduler.config.get("set_alpha_to_one", True) else kept[0]  # Stable Diffusion ends at t = 0

        def ddim(output: Tensor, place: int, x: Tensor) -> Tensor:
            left = kept[timesteps[place + 1]] if place + 1 < len(timesteps) else last
            return ddim_step(x, output[:, : x.shape[1]], kept[timesteps[place]], left)

        return ddim
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    common = {"num_train_timesteps": model.diffusion.num_timesteps, "trained_betas": model.diffusion.betas.tolist()}
    if sampler == "dpm++":
        scheduler = DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero")
    else:
        kind = "learned_range" if model.learned_variance else "fixed_small"
        scheduler = DDPMScheduler(**common, clip_sample=False, variance_type=kind)
    scheduler.set_timesteps(timesteps=timesteps)  # DDPM looks its next timestep up among them

    def step(output: Tensor, place: int, x: Tensor) -> Tensor:
        t, eps = timesteps[place], output[:, : x.shape[1]]
        if sampler == "dpm++":
            return scheduler.step(eps, t, x).prev_sample
        if place + 1 == len(timesteps) and t > 0:  # the mean of the last step; diffusers would add noise to it wherever t > 0
            return model.diffusion.predict_x0(x, t, eps)
        return scheduler.step(output, t, x, generator=noise).prev_sample

    return step


def _predictor(model: Pretrained, labels: Tensor, conditions: dict[str, Tensor], null_conditions: dict[str, Tensor], guidance: float,
               guide: Pretrained | None, switch_to: Pretrained | None, switch_at: int | None) -> Callable[[Tensor, int], Tensor]:  # fmt: skip
    """(x_t, t) -> noise (n, C, h, w), and variance where it is learned, guided, by whichever model is in charge at t."""
    nulls_of = {name: null.to(model.device).expand(len(labels), *null.shape) for name, null in null_conditions.items()}
    unconditioned = conditions | nulls_of

    def nulls(other: Pretrained) -> Tensor:
        return torch.full_like(labels, other.null_label)

    def predict(x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        if switch_to is not None and t < switch_at:
            return switch_to.predict(x, times, nulls(switch_to), **unconditioned)
        if guidance == 1:
            return model.predict(x, times, labels, **conditions)
        if guide is None:
            told = {name: torch.cat([tensor, unconditioned[name]]) for name, tensor in conditions.items()}
            both = model.predict(torch.cat([x, x]), torch.cat([times, times]), torch.cat([labels, nulls(model)]), **told)
            conditional, unconditional = both.chunk(2)
        else:
            conditional = model.predict(x, times, labels, **conditions)
            unconditional = guide.predict(x, times, nulls(guide), **unconditioned)
        channels = x.shape[1]
        c, u, variance = conditional[:, :channels], unconditional[:, :channels], conditional[:, channels:]
        return torch.cat([u + guidance * (c - u), variance], dim=1)  # the variance is the conditional branch's

    return predict


def _check_numbers(model: Pretrained, steps: int, sampler: str, guidance: float, batch_size: int, generator: object) -> None:
    T = model.diffusion.num_timesteps
    if sampler not in get_args(Sampler):
        raise ValueError(f"unknown sampler {sampler!r}: choose one of {', '.join(get_args(Sampler))}")
    if not abs(guidance) < float("inf"):
        raise ValueError(f"guidance must be a finite number, got {guidance}")
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and {T}, got {steps}")
    stride = T // steps
    if steps * stride < 0.95 * T:  # the chain would begin in the middle, where x_t is not pure noise
        raise ValueError(f"{steps} steps of {stride} do not span {T} timesteps: use {T // (stride + 1)} or {T // stride}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {type(generator).__name__}: a number is a seed=")


def _check_partners(model: Pretrained, guide: Pretrained | None, switch_to: Pretrained | None, switch_at: int | None) -> None:
    for role, other in (("guide", guide), ("switch_to", switch_to)):
        if other is None:
            continue
        require_model(role, other)
        if other.latent_shape != model.latent_shape:
            raise ValueError(f"{role} works on latents {other.latent_shape}, the model on {model.latent_shape}")
        same = other.diffusion.num_timesteps == model.diffusion.num_timesteps
        if not same or not torch.allclose(other.diffusion.betas, model.diffusion.betas):
            raise ValueError(f"{role} has another forward process (betas) than the model: one state cannot serve both")
        if other.device != model.device:
            raise ValueError(f"{role} is on {other.device}, the model on {model.device}: move one of them with .to()")
    if (switch_to is None) != (switch_at is None):
        raise ValueError("switch_to and switch_at go together: the model that takes over, and below which t")
    if switch_at is not None and not 0 <= switch_at <= model.diffusion.num_timesteps:
        raise ValueError(f"switch_at must be between 0 and {model.diffusion.num_timesteps}, got {switch_at}")


def _checked_start(model: Pretrained, labels: Tensor, start: tuple[Tensor, int] | None) -> tuple[Tensor, int] | None:
    if start is None:
        return None
    if not isinstance(start, (tuple, list)) or len(start) != 2 or not isinstance(start[0], Tensor):
        raise ValueError(f"start must be a pair (x_t, t) of latents and their timestep, got {type(start).__name__}")
    x_t, t = start
    t = plain("start's timestep", "int", t.item() if isinstance(t, Tensor) and t.numel() == 1 else t)
    if tuple(x_t.shape) != (len(labels), *model.latent_shape):
        raise ValueError(f"start must hold latents {(len(labels), *model.latent_shape)}, got {tuple(x_t.shape)}")
    require_finite("start's latents", x_t)
    if not 0 <= t < model.diffusion.num_timesteps:
        raise ValueError(f"start's timestep must be between 0 and {model.diffusion.num_timesteps - 1}, got {t}")
    return x_t, t


def _check_conditions(labels: Tensor, conditions: dict[str, Tensor], null_conditions: dict[str, Tensor]) -> None:
    for name, tensor in conditions.items():
        if len(tensor) != len(labels):
            raise ValueError(f"conditions must give a row for each of {len(labels)} labels: {name!r} has {len(tensor)}")
    for name, tensor in [*conditions.items(), *null_conditions.items()]:
        require_finite(f"condition {name!r}", tensor)
