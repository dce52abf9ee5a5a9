"""The chain of forgetting, measured in three ways, all against the timestep.

    zero_shot_denoising     how far the untouched source model denoises pictures it was not trained on
    denoiser_replacement    what samples lose or gain when it takes over the last steps from a tuned model
    loss_ratio              what tuning has done to the loss

The first two are the paper's pilot study (Fig. 1), the third is ours.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..diffusion.losses import eps_loss
from ..diffusion.process import as_tensor, require_timesteps
from ..models.pretrained import Pretrained, require_model
from ..sampling import SamplingStep, label_rows, sample, sample_latents
from ..support.progress import progress_bar
from ..support.random import seeded_generator
from ..support.settings import FRACTION, plain, require_within
from ..support.surroundings import undisturbed
from ..training.fine_tuned import FineTuned
from .metrics import HasImages, evaluate

SCORES = ("fid", "kid", "precision", "recall")
DATA_END = 0.2  # of the reverse steps, the last ones


@undisturbed
@torch.no_grad()
def zero_shot_denoising(model: Pretrained, images: Tensor, timesteps: Sequence[int] | Tensor, *, seed: int = 0,
                        steps: int = 50) -> dict[str, Tensor]:  # fmt: skip
    """Noise images (N, 3, H, W) up to each timestep, and let the model take the chain back from there.

    It samples under its null label with DDIM, unguided, `steps` to a whole chain.  Returns for
    K `timesteps` (K,): `noisy` and `denoised` images (K, N, 3, H, W), and `error` (K, N),
    float64: the mean squared error per pixel against the image as the autoencoder gives it
    back, so that 0 can be reached.  The paper's Fig. 1a, measured.
    """
    require_model("model", model)
    timesteps, seed = _whole(timesteps, model), plain("seed", "int", seed)
    images = getattr(images, "images", images)  # a task's
    latents = model.encode(images)
    nulls = torch.full((len(images),), model.null_label)
    noisy, denoised = [], []
    for t in timesteps.tolist():
        noise = torch.randn(latents.shape, generator=seeded_generator(seed, "zero-shot denoising", t)).to(latents.device)
        x_t = model.diffusion.q_sample(latents, torch.full((len(latents),), t), noise)
        noisy.append(model.decode(x_t).cpu())
        denoised.append(sample(model, nulls, steps=steps, guidance=1, start=(x_t, t)))
    found = {"timesteps": timesteps, "noisy": torch.stack(noisy), "denoised": torch.stack(denoised)}
    error = (found["denoised"] - model.decode(latents).cpu()).double().square().flatten(2).mean(2)
    return found | {"error": error}


@undisturbed
def denoiser_replacement(tuned: FineTuned | Pretrained, pretrained: Pretrained, fractions: Sequence[float], reference: HasImages, *,
                         seed: int = 0, samples: int = 500, steps: int = 50, guidance: float = 1.5,
                         progress: bool = False) -> dict[str, Tensor]:  # fmt: skip
    """Scores of the tuned model's samples when the pre-trained one takes the last part of the reverse steps.

    For each of `fractions` (K numbers in [0, 1]; 0 = the tuned model alone) the last
    fraction of the DDIM steps is left to `pretrained`, unguided and under its null label.
    The tuned model draws the classes of the task alike, and up to the switch all fractions share
    one chain.  Returns `fractions`, `switch_at` (int64: below which t it takes over) and the
    scores `fid`, `kid`, `precision`, `recall` against `reference`, each float64 (K,).
    The paper's Fig. 1b.
    """
    model = getattr(tuned, "model", tuned)
    require_model("tuned", model)
    require_model("pretrained", pretrained)
    sample_latents(model, [], steps=steps, guidance=guidance, seed=seed)  # what the sampler refuses is refused before anything is drawn
    samples = plain("samples", "int", samples)
    fractions = [float(fraction) for fraction in fractions]
    for fraction in fractions:
        require_within("fractions", fraction, FRACTION)
    rows = _task_rows(model, reference) if model is tuned else tuned.rows
    labels = rows[torch.arange(samples) % len(rows)]
    stride = model.diffusion.num_timesteps // steps
    replaced = [round(fraction * steps) for fraction in fractions]  # how many of the last steps
    states: dict[int, list[Tensor]] = {(count - 1) * stride: [] for count in replaced if count}

    def keep(step: SamplingStep) -> None:
        if step.t in states:
            states[step.t].append(step.x_t)

    whole = sample_latents(model, labels, steps=steps, guidance=guidance, seed=seed, progress=progress, callback=keep)
    nulls, scores = torch.full_like(labels, pretrained.null_label), []
    for count in progress_bar(replaced, "fractions", shown=progress):
        t = (count - 1) * stride
        latents = whole if count == 0 else sample_latents(pretrained, nulls, steps=steps, guidance=1, start=(torch.cat(states[t]), t))
        scores.append(evaluate(torch.cat([model.decode(part).cpu() for part in latents.split(250)]), reference))
    found = {name: torch.tensor([score[name] for score in scores], dtype=torch.float64) for name in SCORES}
    switch_at = torch.tensor([count * stride for count in replaced], dtype=torch.int64)
    return {"fractions": torch.tensor(fractions, dtype=torch.float64), "switch_at": switch_at, **found}


def _task_rows(model: Pretrained, reference: HasImages) -> Tensor:
    """The label rows of a task's classes in a tuned model, by name; int64 (K,)."""
    names = getattr(reference, "class_names", None)
    if names is None:
        raise ValueError("pass what fine_tune returned, or a task as reference: a model alone does not say which labels are the task's")
    own = [f"{name} ({reference.name})" for name in names]  # the name of a class that the source has, too
    return label_rows(model, [new if new in model.label_names else name for new, name in zip(own, names)])


@undisturbed
def loss_ratio(before: Pretrained, after: Pretrained, images: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, *,
               seed: int = 0) -> dict[str, Tensor]:  # fmt: skip
    """L_after(t) / L_before(t) of the noise prediction at each timestep, on the same images and noise.

    Images (N, 3, H, W), labels int64 (N,) as rows of both models' tables.  Above 1 the model
    has forgotten, below 1 it has learned.  The ratio is the same for noise and x_0 errors,
    which differ by a factor of t alone.  Returns float64 (len(timesteps),) entries `ratio`,
    `before`, `after`, and the `timesteps`.
    """
    require_model("before", before)
    require_model("after", after)
    timesteps, seed = _whole(timesteps, before), plain("seed", "int", seed)
    losses = {"before": timestep_losses(before, images, labels, timesteps, seed=seed)}
    losses["after"] = timestep_losses(after, images, labels, timesteps, seed=seed)
    return {"timesteps": timesteps, "ratio": losses["after"] / losses["before"], **losses}


@undisturbed
@torch.no_grad()
def timestep_losses(model: Pretrained, images: Tensor, labels: Tensor, timesteps: Sequence[int] | Tensor, *, seed: int = 0,
                    batch_size: int = 250, conditions: dict[str, Tensor] | None = None) -> Tensor:  # fmt: skip
    """Mean squared error of the predicted noise at each timestep; float64 (len(timesteps),).  `conditions` (each (N, ...)) are told beside the labels."""
    images = getattr(images, "images", images)  # a task's
    latents = torch.cat([model.encode(part) for part in images.split(batch_size)])
    labels = label_rows(model, labels).to(model.device)
    if not len(labels) == len(latents) > 0:
        raise ValueError(f"there must be images, and one label for each: got {len(labels)} labels and {len(latents)} images")
    parts = [slice(first, first + batch_size) for first in range(0, len(latents), batch_size)]
    told = [{name: rows[part].to(model.device) for name, rows in (conditions or {}).items()} for part in parts]
    means = []
    for t in _whole(timesteps, model).tolist():
        noise = torch.randn(latents.shape, generator=seeded_generator(seed, "timestep loss", t)).to(latents.device)
        errors = []
        for part, own in zip(parts, told):
            x_0, eps = latents[part], noise[part]
            times = torch.full((len(x_0),), t, device=x_0.device)
            errors.append(eps_loss(model.predict(model.diffusion.q_sample(x_0, times, eps), times, labels[part], **own), eps))
        means.append(torch.cat(errors).cpu().double().mean())
    return torch.stack(means)


def _whole(timesteps: Sequence[int] | Tensor, model: Pretrained) -> Tensor:
    """Timesteps as int64 (K,); fractions of the chain and places outside it raise."""
    given = as_tensor(timesteps).cpu().reshape(-1)
    require_timesteps(given, model.diffusion.num_timesteps)
    return given.long()


def losses_by_tenth(model: Pretrained, images: Tensor, labels: Tensor, *, each: int = 4, seed: int = 0,
                    conditions: dict[str, Tensor] | None = None) -> Tensor:  # fmt: skip
    """`timestep_losses` averaged over `each` timesteps of every tenth of the chain, data end first; float64 (10,)."""
    tenths = chain_tenths(model.diffusion.num_timesteps, each)
    return timestep_losses(model, images, labels, tenths.flatten(), seed=seed, conditions=conditions).reshape(tenths.shape).mean(1)


def chain_tenths(num_timesteps: int, each: int = 4) -> Tensor:
    """Timesteps that sample the chain's ten equal parts, `each` in the middle of equal slices of a part; (10, each)."""
    slices = 10 * each
    return ((torch.arange(slices, dtype=torch.float32, device="cpu") + 0.5) * num_timesteps / slices).long().reshape(10, each)
