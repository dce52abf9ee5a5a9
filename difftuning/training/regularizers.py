"""Regularizers by name: further terms of the loss that keep a fine-tuned model near the pre-trained one.

A regularizer is a function of the run's `Setting` that returns penalties, each a named column of the history.  A new one is
a dataclass of its options here, its equation in diffusion/regularizers.py, and a line in `REGULARIZERS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Literal

import torch
from torch import Tensor, nn

from ..config import DiffTuningConfig
from ..diffusion.regularizers import diagonal_fisher, distillation, ewc, l2_sp
from ..diffusion.timestep_weights import timestep_distribution
from ..models.pretrained import Pretrained
from ..sampling import sample_latents
from ..support.settings import COUNT, POSITIVE, check_settings, setting
from .checkpoints import trainable
from .memory_bank import MemoryBank
from .objective import Batch, Objective, Penalty, Stream


@dataclass(frozen=True)
class Setting:
    """What a regularizer may use of a run, before its first step."""

    pretrained: Pretrained
    denoiser: nn.Module  # the copy that will be trained
    streams: list[Stream]
    seed: int
    bank: MemoryBank | None = None  # at hand, whether or not it is a stream


Regularizer = Callable[[Setting], list[Penalty]]


@dataclass(frozen=True, kw_only=True)
class L2SP:
    """The distance of the trained weights from where they began, new ones (label rows, an adapter's) included."""

    weight: float = setting(1e-3, within=POSITIVE)  # of 1e-4 to 1e-1 the best on 200 digits (the paper: 1e-3 to 1)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, setting: Setting) -> list[Penalty]:
        start = _copies(setting.denoiser)
        return [Penalty("l2_sp", lambda module, batch: batch.share * l2_sp(_weights(module, start), _on(module, start)), self.weight)]


@dataclass(frozen=True, kw_only=True)
class EWC:
    """The same distance, each weight by how much the pre-trained model's own pictures need it.

    The Fisher information is estimated on `samples` of the bank's latents under their own labels (each tenth without one), at
    uniform t.  A run without a bank draws as many from the pre-trained model first.
    """

    weight: float = setting(1e4, within=POSITIVE)  # of 1e3, 1e4, 1e5 the best on 200 digits (study regularizer_weights)
    samples: int = setting(200, within=COUNT)
    sampling_steps: int = setting(25, within=COUNT)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, setting: Setting) -> list[Penalty]:
        start, model = _copies(setting.denoiser), setting.pretrained
        law = timestep_distribution(model.diffusion.num_timesteps, 0)
        x_0, labels = self._source(setting)
        source = Stream("source", x_0, labels, 1, law, label_drop=0.1, null_label=model.null_label)
        objective = Objective([source], model.diffusion, setting.seed)
        losses = (objective.losses(setting.denoiser, i, model.device)["source"] for i in range(self.samples))
        fisher = dict(zip(start, diagonal_fisher(losses, list(trainable(setting.denoiser).values()))))

        def distance(module: nn.Module, batch: Batch) -> Tensor:
            return batch.share * ewc(_weights(module, start), _on(module, start), _on(module, fisher))

        return [Penalty("ewc", distance, self.weight)]

    def _source(self, setting: Setting) -> tuple[Tensor, Tensor]:
        if setting.bank is not None:
            return setting.bank.latents, setting.bank.labels
        labels = torch.arange(self.samples) % max(len(setting.pretrained.label_names), 1)
        return sample_latents(setting.pretrained, labels, steps=self.sampling_steps, seed=setting.seed), labels


On = Literal["auto", "bank", "target"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The predicted noise stays what the frozen model predicts.

    On the bank's pictures of each batch, as they are: there the frozen model knows what it is asked.  The trained model's
    answer is at hand, so only the frozen one's costs a pass.  (bank_weight=0 leaves the bank to distillation alone.)
    Without a bank, on target pictures under the null label, as the frozen model has no row for a new class: a pass of both.
    """

    weight: float = setting(1.0, within=POSITIVE)
    on: On = "auto"  # the bank where the run replays one, else the target

    def __post_init__(self):
        check_settings(self)

    def __call__(self, setting: Setting) -> list[Penalty]:
        replayed = "bank" in {stream.name for stream in setting.streams}
        if self.on == "bank" and not replayed:
            raise ValueError("distillation on the bank's pictures needs some in each batch: pass a bank, with bank_share above 0")
        name, frozen, null = "bank" if replayed and self.on != "target" else "target", setting.pretrained, setting.pretrained.null_label

        def difference(module: nn.Module, batch: Batch) -> Tensor:
            own = batch.places[name]
            x_t, t, labels = batch.x_t[own], batch.t[own], batch.labels[own]
            conditions = {key: rows[own] for key, rows in batch.conditions.items()}
            if name == "target":
                labels = torch.full_like(labels, null)
                output = module(x_t, t, labels, **conditions)
            else:
                output = batch.output[own]
            eps, teacher = (out[:, : x_t.shape[1]].float() for out in (output, frozen.predict(x_t, t, labels, **conditions)))
            return distillation(eps, teacher).sum() / batch.counts[name]

        return [Penalty("distillation", difference, self.weight)]


@dataclass(frozen=True, kw_only=True)
class PriorPreservation:
    """DreamBooth's prior preservation (Ruiz et al., CVPR 2023, eq. 2): the bank at uniform t under its own labels, weight 1.

    No further term but other settings of the bank's stream, which it replaces; the target's stay as they are given
    (reconsolidation_power=0 is DreamBooth's loss, 1 combines it with reconsolidation).
    """

    weight: float = setting(1.0, within=POSITIVE)

    def __post_init__(self):
        check_settings(self)

    def adjusted(self, config: DiffTuningConfig, bank: MemoryBank | None) -> DiffTuningConfig:
        """The run's settings with this in them."""
        if bank is None or config.bank_share == 0:
            raise ValueError("prior_preservation replays pictures of the pre-trained model: pass a bank, with bank_share above 0")
        if config.family != "official":
            raise ValueError(f"prior_preservation draws t uniformly, which family {config.family!r} cannot: take family='official'")
        return replace(config, bank_weight=self.weight, bank_labels="own", retention_power=0.0)

    def __call__(self, setting: Setting) -> list[Penalty]:
        return []


REGULARIZERS: dict[str, Any] = {
    "l2_sp": L2SP(),
    "ewc": EWC(),
    "distillation": Distillation(),
    "prior_preservation": PriorPreservation(),
}


def _copies(denoiser: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainable(denoiser).items()}


def _weights(module: nn.Module, names: dict[str, Tensor]) -> list[Tensor]:
    weights = trainable(module)
    return [weights[name] for name in names]


def _on(module: nn.Module, tensors: dict[str, Tensor]) -> list[Tensor]:
    """On the device on which the module is trained."""
    device = next(module.parameters()).device
    return [tensor.to(device) for tensor in tensors.values()]
