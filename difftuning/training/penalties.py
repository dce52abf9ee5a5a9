"""What each regularizer adds to the loss, made from a run before its first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffusion.regularizers import diagonal_fisher, distillation, ewc, l2_sp
from ..diffusion.timestep_weights import timestep_distribution
from ..models.pretrained import Pretrained
from ..sampling import sample_latents
from ..support.progress import LONG, progress_bar
from .checkpoints import trainable
from .memory_bank import MemoryBank
from .objective import Batch, Objective, Penalty, Stream


@dataclass(frozen=True)
class RunContext:
    """What a regularizer may use of a run, before its first step."""

    pretrained: Pretrained
    denoiser: nn.Module  # the copy that will be trained
    streams: list[Stream]
    seed: int
    bank: MemoryBank | None = None  # at hand, whether or not it is a stream
    progress: bool = True


def distance_penalty(context: RunContext, weight: float) -> Penalty:
    """L2-SP's: the distance from the weights that the run begins with."""
    start = _copies(context.denoiser)
    return Penalty("l2_sp", lambda module, batch: batch.share * l2_sp(_weights(module, start), _on(module, start)), weight)


def fisher_penalty(context: RunContext, weight: float, *, samples: int, sampling_steps: int) -> Penalty:
    """EWC's: the same distance, by the Fisher information of `samples` of the bank's or the model's own pictures."""
    start, model = _copies(context.denoiser), context.pretrained
    law = timestep_distribution(model.diffusion.num_timesteps, 0)
    x_0, labels = _source(context, samples, sampling_steps)
    source = Stream("source", x_0, labels, 1, law, label_drop=0.1, null_label=model.null_label)
    objective = Objective([source], model.diffusion, context.seed)
    places = progress_bar(range(samples), "Fisher information", shown=context.progress, delay=LONG)
    losses = (objective.losses(context.denoiser, i, model.device)["source"] for i in places)
    fisher = dict(zip(start, diagonal_fisher(losses, list(trainable(context.denoiser).values()))))

    def distance(module: nn.Module, batch: Batch) -> Tensor:
        return batch.share * ewc(_weights(module, start), _on(module, start), _on(module, fisher))

    return Penalty("ewc", distance, weight)


def _source(context: RunContext, samples: int, sampling_steps: int) -> tuple[Tensor, Tensor]:
    if context.bank is not None:
        return context.bank.latents, context.bank.labels
    labels = torch.arange(samples) % max(len(context.pretrained.label_names), 1)
    return sample_latents(context.pretrained, labels, steps=sampling_steps, seed=context.seed, progress=context.progress), labels


def distillation_penalty(context: RunContext, weight: float, *, on: str) -> Penalty:
    """Distillation's: the distance of the predicted noise from the frozen model's, on the bank's or the target's pictures."""
    replayed = "bank" in {stream.name for stream in context.streams}
    if on == "bank" and not replayed:
        raise ValueError("distillation on the bank's pictures needs some in each batch: pass a bank, with bank_share above 0")
    name, frozen, null = "bank" if replayed and on != "target" else "target", context.pretrained, context.pretrained.null_label

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

    return Penalty("distillation", difference, weight)


def _copies(denoiser: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainable(denoiser).items()}


def _weights(module: nn.Module, names: dict[str, Tensor]) -> list[Tensor]:
    weights = trainable(module)
    return [weights[name] for name in names]


def _on(module: nn.Module, tensors: dict[str, Tensor]) -> list[Tensor]:
    """On the device on which the module is trained."""
    device = next(module.parameters()).device
    return [tensor.to(device) for tensor in tensors.values()]
