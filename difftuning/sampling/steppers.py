"""From x_t to the next, less noisy timestep: DDIM written out beside its equation, DDPM and DPM-Solver++ by diffusers' schedulers."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

from ..models.pretrained import Pretrained

Step = Callable[[Tensor, int, Tensor], Tensor]  # (the model's output, place among the timesteps, x_t) -> x at the next timestep


def reverse_timesteps(num_timesteps: int, steps: int, start: int | None = None, offset: int = 0) -> list[int]:
    """Descending timesteps, T // steps apart, the last below that; from pure noise they are diffusers' "leading" ones, which end at 0.

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


def _ddim(model: Pretrained, timesteps: list[int], noise: list[torch.Generator]) -> Step:
    kept = model.diffusion.alphas_cumprod.float()
    last = kept.new_ones(()) if model.scheduler.config.get("set_alpha_to_one", True) else kept[0]  # Stable Diffusion ends at t = 0
    signals = [*kept[timesteps], last]
    return lambda output, place, x: ddim_step(x, output[:, : x.shape[1]], signals[place], signals[place + 1])


def _ddpm(model: Pretrained, timesteps: list[int], noise: list[torch.Generator]) -> Step:
    from diffusers import DDPMScheduler

    kind = "learned_range" if model.learned_variance else "fixed_small"
    scheduler = DDPMScheduler(**_process(model), clip_sample=False, variance_type=kind)
    scheduler.set_timesteps(timesteps=timesteps)  # it looks its next timestep up among them

    def step(output: Tensor, place: int, x: Tensor) -> Tensor:
        t = timesteps[place]
        if place + 1 == len(timesteps) and t > 0:  # the mean of the last step; diffusers would add noise to it wherever t > 0
            return model.diffusion.predict_x0(x, t, output[:, : x.shape[1]])
        return scheduler.step(output, t, x, generator=noise).prev_sample

    return step


def _dpm_solver(model: Pretrained, timesteps: list[int], noise: list[torch.Generator]) -> Step:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(**_process(model), algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero")
    scheduler.set_timesteps(timesteps=timesteps)
    return lambda output, place, x: scheduler.step(output[:, : x.shape[1]], timesteps[place], x).prev_sample


def _process(model: Pretrained) -> dict[str, Any]:
    return {"num_train_timesteps": model.diffusion.num_timesteps, "trained_betas": model.diffusion.betas.tolist()}


STEPPERS = {"ddim": _ddim, "ddpm": _ddpm, "dpm++": _dpm_solver}  # (model, timesteps, a generator for each sample) -> Step
