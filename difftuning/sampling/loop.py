"""The loop from noise, or a given state, down to pictures.  Every sample's noise comes from its own seed, so a picture does not depend on its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch
from torch import Tensor

from ..config import Sampler
from ..diffusion.process import require_finite
from ..models.controlnet import require_controls
from ..models.pretrained import Pretrained, require_model
from ..support.kinds import require_kind
from ..support.options import require_choice
from ..support.progress import LONG, progress_bar
from ..support.settings import plain
from ..support.surroundings import undisturbed
from .guidance import Guidance
from .labels import label_rows, prompts_as_conditions
from .steppers import STEPPERS, reverse_timesteps


@dataclass(frozen=True)
class SamplingStep:
    """What a callback sees before each reverse step: the timestep, the state there, the estimate of x_0."""

    t: int
    x_t: Tensor  # (n, C, h, w), before the step
    x_0: Tensor  # (n, C, h, w), the model's estimate at t


@undisturbed
@torch.no_grad()
def sample(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, steps: int = 50, sampler: Sampler = "ddim",
           guidance: float = 1.5, guide: Pretrained | None = None, start: tuple[Tensor, int] | None = None,
           switch_to: Pretrained | None = None, switch_at: int | None = None, seed: int = 0,
           generator: torch.Generator | None = None, conditions: dict[str, Tensor] | None = None,
           null_conditions: dict[str, Tensor] | None = None, batch_size: int = 250, progress: bool = True,
           callback: Callable[[SamplingStep], None] | None = None, decode: bool = True) -> Tensor:  # fmt: skip
    """Images (N, 3, H, W) in [-1, 1], one for each label.

    `labels` are rows of the model's label table (its null label included) or names out of `label_names`; a text-to-image model
    takes prompts in their place, and its ControlNet the condition "control" (N, 3, H, W) in [0, 1].  `guidance` 1 uses the conditional branch alone.  `start` = (x_t, t) begins at a given state,
    with the step length of the whole chain.  `switch_to` takes over where t < `switch_at`, unguided and under its own null
    label.  `conditions` (each (N, ...)) are told to the model beside the labels; the branch that guides gets `null_conditions`
    (each (...)) in place of those it names.  `decode`=False gives the scaled latents (N, C, h, w).  A bar shows where it takes
    more than a few seconds.
    """
    require_model("model", model)
    steps, seed, batch_size = plain("steps", "int", steps), plain("seed", "int", seed), plain("batch_size", "int", batch_size)
    guidance, switch_at = plain("guidance", "float", guidance), plain("switch_at", "int | None", switch_at)
    _check_numbers(model, steps, sampler, batch_size, generator)
    guided = Guidance(model, guidance, guide, switch_to, switch_at)
    conditions, nulls = ({} if told is None else told for told in (conditions, null_conditions))
    _check_conditions(model, conditions, nulls)
    if model.takes_prompts:
        labels, text, empty = prompts_as_conditions(model, labels)
        conditions, nulls = text | conditions, empty | nulls
    labels = label_rows(model, labels)
    for name, tensor in conditions.items():
        if tensor.shape[:1] != labels.shape:
            asked = "prompts" if model.takes_prompts else "labels"
            raise ValueError(f"conditions must give a row for each of {len(labels)} {asked}: {name!r} has shape {tuple(tensor.shape)}")
    states, begin = (None, None) if start is None else _checked_start(model, labels, start)
    generator = torch.Generator().manual_seed(seed) if generator is None else generator
    seeds = torch.randint(2**62, (len(labels),), generator=generator, device=generator.device).tolist()
    timesteps = reverse_timesteps(model.diffusion.num_timesteps, steps, begin, model.scheduler.config.get("steps_offset", 0))
    nulls = {name: null.to(model.device) for name, null in nulls.items()}
    firsts, batches = range(0, len(labels), batch_size), [torch.empty(0, *model.latent_shape)]
    with progress_bar(None, "sampling", total=len(firsts) * len(timesteps), shown=progress, delay=LONG) as bar:
        for first in firsts:
            part = slice(first, first + batch_size)
            noise = [torch.Generator().manual_seed(s) for s in seeds[part]]
            x = torch.stack([torch.randn(model.latent_shape, generator=g) for g in noise]) if states is None else states[part]
            x, rows = x.to(model.device), labels[part].to(model.device)
            told = {name: tensor[part].to(model.device) for name, tensor in conditions.items()}
            step = STEPPERS[sampler](model, timesteps, noise)
            for place, t in enumerate(timesteps):
                output = guided.predict(x, t, rows, told, nulls)
                if callback is not None:
                    callback(SamplingStep(t, x.cpu(), model.diffusion.predict_x0(x, t, output[:, : x.shape[1]]).cpu()))
                x = step(output, place, x)
                bar.update()
            if not x.isfinite().all():
                raise FloatingPointError(f"{model.name} drew NaN or infinity: its weights have diverged, or overflow in {model.dtype}")
            batches.append(x.cpu())
    latents = torch.cat(batches)
    return torch.cat([model.decode(batch).cpu() for batch in latents.split(batch_size)]) if decode else latents


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
    require_controls(model, conditions)
    if isinstance(prompts, str):
        prompts = [prompts] * len(conditions)
    return sample(
        model, prompts, steps=steps, sampler=sampler, guidance=guidance, seed=seed, generator=generator,
        conditions={"control": conditions}, batch_size=batch_size, progress=progress, callback=callback,
    )  # fmt: skip


def sample_latents(model: Pretrained, labels: Tensor | Sequence[int] | Sequence[str], *, progress: bool = False, **options: Any) -> Tensor:
    """`sample`, with its options, without the last decoding: scaled latents (N, C, h, w) on the CPU."""
    return sample(model, labels, progress=progress, decode=False, **options)


def _check_numbers(model: Pretrained, steps: int, sampler: str, batch_size: int, generator: object) -> None:
    T = model.diffusion.num_timesteps
    require_choice("sampler", sampler, STEPPERS)
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and {T}, got {steps}")
    stride = T // steps
    if steps * stride < 0.95 * T:  # the chain would begin in the middle, where x_t is not pure noise
        raise ValueError(f"{steps} steps of {stride} do not span {T} timesteps: use {T // (stride + 1)} or {T // stride}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {type(generator).__name__}: a number is a seed=")


def _check_conditions(model: Pretrained, conditions: dict[str, Tensor], nulls: dict[str, Tensor]) -> None:
    for told, alone in ((conditions, False), (nulls, True)):
        require_kind("conditions", told, dict)
        for name, tensor in told.items():
            require_kind(f"condition {name!r}", tensor, Tensor)
            require_finite(f"condition {name!r}", tensor)
            if name == "control" and model.takes_prompts:
                require_controls(model, tensor[None] if alone else tensor)


def _checked_start(model: Pretrained, labels: Tensor, start: tuple[Tensor, int]) -> tuple[Tensor, int]:
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
