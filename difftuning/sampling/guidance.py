"""Which model predicts the noise at t, and how the prediction is guided.

    eps = u + w (c - u)       c: the model under its labels, u: the guide under its null label

All latent channels are guided, as in diffusers; the published DiT code guides the first three of four.

The guide is the model itself (classifier-free guidance, Ho and Salimans 2022) or another one, such as the untouched pre-trained
model (Domain Guidance, Zhong et al., ICLR 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.pretrained import Pretrained, require_model


@dataclass(frozen=True)
class Guidance:
    """How strongly a model is guided, by which one (None: itself), and which one takes over where t < `switch_at`, unguided."""

    model: Pretrained
    strength: float
    guide: Pretrained | None = None
    switch_to: Pretrained | None = None
    switch_at: int | None = None

    def __post_init__(self):
        if not abs(self.strength) < float("inf"):
            raise ValueError(f"guidance must be a finite number, got {self.strength}")
        for role in ("guide", "switch_to"):
            if getattr(self, role) is not None:
                _require_partner(role, getattr(self, role), self.model)
        if (self.switch_to is None) != (self.switch_at is None):
            raise ValueError("switch_to and switch_at go together: the model that takes over, and below which t")
        if self.switch_at is not None and not 0 <= self.switch_at <= self.model.diffusion.num_timesteps:
            raise ValueError(f"switch_at must be between 0 and {self.model.diffusion.num_timesteps}, got {self.switch_at}")

    def predict(self, x_t: Tensor, t: int, labels: Tensor, conditions: dict[str, Tensor], nulls: dict[str, Tensor]) -> Tensor:
        """The guided noise, then the unguided variance where it is learned: (n, C or 2C, h, w), of labels (n,) and conditions (n, ...).

        The branch that guides gets `nulls` (each (...)) in place of the conditions that they name.
        """
        times = torch.full((len(x_t),), t, device=x_t.device)
        unconditioned = conditions | {name: null.expand(len(x_t), *null.shape) for name, null in nulls.items()}

        def null_branch(model: Pretrained) -> Tensor:
            return model.predict(x_t, times, torch.full_like(labels, model.null_label), **unconditioned)

        if self.switch_to is not None and t < self.switch_at:
            return null_branch(self.switch_to)
        if self.strength == 1:
            return self.model.predict(x_t, times, labels, **conditions)
        if self.guide is None:  # both branches in one pass
            null_labels = torch.full_like(labels, self.model.null_label)
            both = {name: torch.cat([rows, unconditioned[name]]) for name, rows in conditions.items()}
            output = self.model.predict(torch.cat([x_t, x_t]), torch.cat([times, times]), torch.cat([labels, null_labels]), **both)
            conditional, unconditional = output.chunk(2)
        else:
            conditional, unconditional = self.model.predict(x_t, times, labels, **conditions), null_branch(self.guide)
        channels = x_t.shape[1]
        c, u, variance = conditional[:, :channels], unconditional[:, :channels], conditional[:, channels:]
        return torch.cat([u + self.strength * (c - u), variance], dim=1)  # the variance is the conditional branch's


def _require_partner(role: str, other: Pretrained, model: Pretrained) -> None:
    require_model(role, other)
    if other.latent_shape != model.latent_shape:
        raise ValueError(f"{role} works on latents {other.latent_shape}, the model on {model.latent_shape}")
    same = other.diffusion.num_timesteps == model.diffusion.num_timesteps
    if not same or not torch.allclose(other.diffusion.betas, model.diffusion.betas):
        raise ValueError(f"{role} has another forward process (betas) than the model: one state cannot serve both")
    if other.device != model.device:
        raise ValueError(f"{role} is on {other.device}, the model on {model.device}: move one of them with .to()")
