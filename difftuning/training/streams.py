"""What `fine_tune` trains on: the task's pictures and the bank's, with what the model is told of each, and at which t.

Diff-Tuning trains on target pictures whose t is drawn from a distribution that rises (reconsolidation) and on memory-bank
pictures whose t is drawn from one that falls (retention).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Literal, Sequence

import torch
from torch import Tensor

from ..config import P2_GAMMA, DiffTuningConfig
from ..data.latents import encode_latents
from ..data.sets import digest
from ..data.tasks import Task
from ..diffusion import timestep_weights as weights
from ..diffusion.process import Diffusion, require_finite
from ..models.pretrained import Pretrained, weights_digest
from .memory_bank import MemoryBank
from .objective import Stream

Role = Literal["reconsolidation", "retention"]  # of the target pictures, of the bank
Conditioner = Callable[[Tensor, Sequence[str]], dict[str, Tensor]]
CONDITION_BATCH = 64  # pictures


def bank_places(batch_size: int, bank_share: float) -> int:
    """Of a batch, how many pictures are the bank's: the share, rounded down."""
    return int(round(batch_size * bank_share, 6))  # 100 * 0.29 is 28.999999999999996


def split_batch(config: DiffTuningConfig, bank: MemoryBank | None, *, unused: bool = False) -> tuple[int, int]:
    """Target and bank pictures in each global batch: 26 and 6 of 32 at a share of 0.2; `unused`: none is allowed, too."""
    if bank is None or (unused and config.bank_share == 0):
        return config.batch_size, 0
    from_bank = bank_places(config.batch_size, config.bank_share)
    if from_bank == 0:
        which = "raise one of them" if config.bank_share else "raise the share"
        raise ValueError(
            f"a batch of {config.batch_size} at bank_share {config.bank_share} holds no bank picture: {which}, or pass bank=None"
        )
    return config.batch_size - from_bank, from_bank


def training_streams(pretrained: Pretrained, task: Task, bank: MemoryBank | None, config: DiffTuningConfig, rows: Tensor,
                     batch: tuple[int, int], conditions: Conditioner | None = None, bank_conditions: Conditioner | None = None,
                     null_conditions: dict[str, Tensor] | None = None) -> list[Stream]:  # fmt: skip
    """The target stream and, with a bank, the bank's: latents, labels, conditions, timesteps and weights as the method has them.

    ValueError where the two would not be told the same conditions.
    """
    if bank_conditions is not None and conditions is None:
        raise ValueError("bank_conditions is for a model that is told conditions: give conditions, too")
    T, null, own = pretrained.diffusion.num_timesteps, pretrained.null_label, config.bank_labels == "own"
    both = {"eps_weight": _eps_weight(config, pretrained.diffusion), "null_conditions": null_conditions or {}}
    distribution, weight = timestep_sampling(config, T, "reconsolidation")
    target = task_stream("target", pretrained, task, conditions, labels=rows[task.labels], batch=batch[0], label_drop=config.label_drop,
                         timestep_distribution=distribution, timestep_weight=weight, **both)  # fmt: skip
    if unknown := sorted((null_conditions or {}).keys() - target.conditions.keys()):
        raise ValueError(f"null_conditions has {unknown[0]!r}, which conditions does not give")
    if batch[1] == 0:
        return [target]
    distribution, weight = timestep_sampling(config, T, "retention")
    retained = Stream("bank", bank.latents, bank.labels if own else torch.full_like(bank.labels, null), batch[1], distribution,
                      weight=config.bank_weight, timestep_weight=weight, label_drop=config.label_drop if own else 0.0, null_label=null,
                      **both)  # fmt: skip
    if conditions is not None:
        told = pretrained.label_names if bank.prompts is None else bank.prompts
        names = [told[label] if label < len(told) else "" for label in bank.labels.tolist()]
        (retained.conditions,) = condition_rows(bank_conditions or conditions, _bank_pictures(bank, pretrained), names)
        if alone := sorted(retained.conditions.keys() ^ target.conditions.keys()):
            raise ValueError(f"bank pictures must have the conditions of target pictures: only one of them has {alone[0]!r}")
        if not own:  # what goes with the null label
            retained.conditions |= {name: null.expand(len(bank), *null.shape) for name, null in both["null_conditions"].items()}
    return [target, retained]


def timestep_sampling(config: DiffTuningConfig, num_timesteps: int, role: Role) -> tuple[Tensor, Tensor | None]:
    """The distribution that t is drawn from and the weight on the loss (None for 1); float64 (T,)."""
    rising = role == "reconsolidation"
    parameter = getattr(config, f"{role}_power")
    weighting = weights.reconsolidation_weighting if rising else weights.retention_weighting
    weight = weighting(config.family, num_timesteps, parameter)
    if not weight.any():
        raise ValueError(
            f"{role}_power={parameter:g} gives {role} no weight anywhere in family={config.family}: choose one above 0 and below 1"
        )
    if config.weighted:
        return weights.timestep_distribution(num_timesteps, 0), weight
    distribution = weights.reconsolidation_distribution if rising else weights.retention_distribution
    return distribution(config.family, num_timesteps, parameter), None


def task_stream(name: str, pretrained: Pretrained, task: Task, conditions: Conditioner | None = None, **options: Any) -> Stream:
    """All of a task's pictures, and the same mirrored where the task allows it; `options` are the stream's."""
    encoded = encode_latents(pretrained, task)
    names = [task.class_names[label] for label in task.labels.tolist()]
    told, *mirrored = [{}, {}] if conditions is None else condition_rows(conditions, task, names)
    stream = Stream(name, encoded["latents"], null_label=pretrained.null_label, conditions=told, **options)
    if "mirrored" in encoded:
        stream.mirrored = replace(stream, x_0=encoded["mirrored"], conditions=mirrored[0])
    return stream


def condition_rows(conditions: Conditioner, pictures: Task, names: Sequence[str]) -> list[dict[str, Tensor]]:
    """What `conditions` gives for every picture, {name: (N, ...)}; where the task allows flips, such a table of the mirror images, too.

    It is asked batch by batch.  One with a method `of_task`(pictures, names) is asked for all of this at once: it may keep what it finds (data/cache.py).
    """
    if hasattr(conditions, "of_task"):
        return conditions.of_task(pictures, names)
    found = [_batch_by_batch(conditions, pictures.read, names)]
    return found + [_batch_by_batch(conditions, lambda places: pictures.read(places).flip(-1), names)] if pictures.flip else found


def _batch_by_batch(conditions: Conditioner, read: Callable[[Sequence[int]], Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    batches = [range(first, min(first + CONDITION_BATCH, len(names))) for first in range(0, len(names), CONDITION_BATCH)]
    found = [conditions(read(places), [names[place] for place in places]) for places in batches]
    for places, given in zip(batches, found):
        for name, tensor in given.items():
            if len(tensor) != len(places):
                raise ValueError(f"conditions must give a row for each picture: {name!r} has {len(tensor)} rows for {len(places)} pictures")
            require_finite(f"condition {name!r}", tensor)
    return {name: torch.cat([given[name].cpu() for given in found]) for name in found[0]}


def _bank_pictures(bank: MemoryBank, pretrained: Pretrained) -> Task:
    """The bank's pictures as a task without classes: what is found in them is kept under the bank's fingerprint and the autoencoder's."""
    fingerprint = digest(bank.fingerprint, weights_digest(pretrained.autoencoder), pretrained.autoencoder.dtype)
    return Task(
        "the bank", ["any"], torch.zeros(len(bank), dtype=torch.int64), lambda places: pretrained.decode(bank.latents[places]).cpu(),
        pretrained.image_size, fingerprint,
    )  # fmt: skip


def _eps_weight(config: DiffTuningConfig, diffusion: Diffusion) -> Tensor | None:
    if config.loss_weighting == "p2":
        return weights.p2_weight(diffusion.snr, gamma=P2_GAMMA)
    return weights.min_snr_weight(diffusion.snr) if config.loss_weighting == "min_snr" else None
