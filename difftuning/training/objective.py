"""What is trained on: streams of pictures and further named terms.

    loss = sum over streams   of  weight * E_{t ~ p} [ w(t) * l(x_0, t) ]
         + sum over penalties of  weight * penalty(model, batch)

Plain training is one stream with uniform t.  Diff-Tuning is two: target pictures whose t rises in
probability, bank pictures whose t falls.  All draws of a step are a function of (seed, stream, step)
alone: that makes resuming exact and lets several processes cut one global batch between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

import torch
from torch import Tensor, nn

from ..diffusion.losses import eps_loss, variational_bound
from ..diffusion.process import Diffusion
from ..support.random import seeded_generator


@dataclass
class Stream:
    """One set of training pictures, what the model is told of each, and how it enters the loss."""

    name: str
    x_0: Tensor  # (N, C, h, w), latents
    labels: Tensor  # int64 (N,), rows of the label table
    batch: int  # pictures of this stream in each global batch
    timestep_distribution: Tensor  # float64 (T,), probability of each timestep
    weight: float = 1.0  # of this stream's mean loss in the total
    timestep_weight: Tensor | None = None  # (T,), multiplies the whole loss at t; None is 1
    eps_weight: Tensor | None = None  # (T,), multiplies the eps term alone (P2, Min-SNR); None is 1
    label_drop: float = 0.0
    null_label: int = 0
    conditions: dict[str, Tensor] = field(default_factory=dict)  # name -> (N, ...), beside the label
    null_conditions: dict[str, Tensor] = field(default_factory=dict)  # name -> (...), in its place where the label is dropped
    mirrored: Stream | None = None  # the same pictures mirrored, where that is allowed: its x_0 and conditions are taken half of the time
    picture_distribution: Tensor | None = None  # float64 (N,); None goes through the set in shuffled epochs
    _epochs: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)  # (seed, epoch) -> the pictures' order

    def draw(self, seed: int, step: int) -> Draw:
        """This stream's share of the global batch at a step, on the CPU."""
        generator = seeded_generator(seed, self.name, step)
        t = torch.multinomial(self.timestep_distribution, self.batch, replacement=True, generator=generator)
        noise = torch.randn(self.batch, *self.x_0.shape[1:], generator=generator)
        dropped = torch.rand(self.batch, generator=generator) < self.label_drop
        flipped = torch.rand(self.batch, generator=generator) < 0.5
        index = self._pictures(seed, step, generator)
        x_0, conditions = self.x_0[index].float(), {name: rows[index] for name, rows in self.conditions.items()}
        if self.mirrored is not None:
            x_0 = _where(flipped, self.mirrored.x_0[index].float(), x_0)
            conditions = {name: _where(flipped, self.mirrored.conditions[name][index], rows) for name, rows in conditions.items()}
        for name, null in self.null_conditions.items():
            conditions[name] = _where(dropped, null, conditions[name])
        labels = torch.where(dropped, self.null_label, self.labels[index])
        return Draw(x_0, t, noise, labels, conditions)

    def _pictures(self, seed: int, step: int, generator: torch.Generator) -> Tensor:
        if self.picture_distribution is not None:
            return torch.multinomial(self.picture_distribution, self.batch, replacement=True, generator=generator)
        size = len(self.x_0)
        places = torch.arange(step * self.batch, (step + 1) * self.batch)
        return torch.stack([self._order(seed, place // size)[place % size] for place in places.tolist()])

    def _order(self, seed: int, epoch: int) -> Tensor:
        key = seed, epoch
        if key not in self._epochs:
            while len(self._epochs) > 1:  # a batch touches two neighbouring epochs at most, or small sets wholly
                self._epochs.pop(min(self._epochs))
            generator = seeded_generator(seed, f"{self.name} order", epoch)
            self._epochs[key] = torch.randperm(len(self.x_0), generator=generator)
        return self._epochs[key]


def _where(chosen: Tensor, theirs: Tensor, ours: Tensor) -> Tensor:
    """torch.where with one decision for each row."""
    return torch.where(chosen.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)


@dataclass(frozen=True)
class Draw:
    """A stream's share of one step: pictures, where in the chain they stand, their noise, what the model is told of them."""

    x_0: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)
    labels: Tensor  # (B,)
    conditions: dict[str, Tensor]  # name -> (B, ...)

    def cut(self, part: int, parts: int) -> Draw:
        """Every `parts`-th sample, from `part` on."""
        rows = slice(part, None, parts)
        conditions = {name: tensor[rows] for name, tensor in self.conditions.items()}
        return Draw(self.x_0[rows], self.t[rows], self.noise[rows], self.labels[rows], conditions)


@dataclass(frozen=True)
class Batch:
    """A step as a penalty sees it: the streams' samples, one stream after the other, and the model's output on them.

    A step may be cut into parts (accumulation, several processes).  A penalty returns its part's contribution: a sum over
    the samples of `places["bank"]` divided by `counts["bank"]`, say, or a function of the weights times `share`.
    """

    x_0: Tensor  # (B, C, h, w)
    x_t: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)
    labels: Tensor  # (B,)
    conditions: dict[str, Tensor]  # name -> (B, ...)
    output: Tensor  # (B, C or 2C, h, w)
    places: dict[str, slice]  # stream -> its samples in the tensors above
    counts: dict[str, int]  # stream -> its samples in the whole step
    share: float  # of the step that this part is; the parts' shares add up to 1


@dataclass(frozen=True)
class Penalty:
    """A further term of the loss, by name a column of the history."""

    name: str
    value: Callable[[nn.Module, Batch], Tensor]  # of the trained module and a step's part; a scalar
    weight: float = 1.0


class Objective:
    """The weighted sum of the streams' losses and the penalties, under one forward process."""

    def __init__(self, streams: list[Stream], diffusion: Diffusion, seed: int, penalties: list[Penalty] | None = None):
        self.streams, self.diffusion, self.seed, self.penalties = streams, diffusion, seed, penalties or []
        self.weights = {term.name: term.weight for term in [*self.streams, *self.penalties]}

    def losses(self, model: nn.Module, step: int, device: torch.device, *, part: int = 0, parts: int = 1) -> dict[str, Tensor]:
        """Each term's value at a step by name, or one part's contribution to it.

        A part takes every `parts`-th sample of each stream and divides by the *global* count,
        so that parts add up to the whole batch's loss and gradient however they are cut.
        """
        batch = self._batch(model, step, device, part, parts)
        losses = {stream.name: self._mean_loss(stream, batch) for stream in self.streams}
        module = getattr(model, "module", model)  # of torch's wrapper for several processes
        return losses | {penalty.name: penalty.value(module, batch) for penalty in self.penalties}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms, as `losses` gives them: what is minimised; a scalar."""
        return sum(self.weights[name] * loss for name, loss in losses.items())

    def _batch(self, model: nn.Module, step: int, device: torch.device, part: int, parts: int) -> Batch:
        draws = [stream.draw(self.seed, step).cut(part, parts) for stream in self.streams]
        x_0, t, noise, labels = (torch.cat([getattr(draw, name) for draw in draws]).to(device) for name in ("x_0", "t", "noise", "labels"))
        conditions = {name: torch.cat([draw.conditions[name] for draw in draws]).to(device) for name in draws[0].conditions}
        x_t = self.diffusion.q_sample(x_0, t, noise)
        output = model(x_t, t, labels, **conditions)  # one forward for all streams
        places, counts, first = {}, {}, 0
        for stream, draw in zip(self.streams, draws):
            places[stream.name], counts[stream.name] = slice(first, first + len(draw.t)), stream.batch
            first += len(draw.t)
        return Batch(x_0, x_t, t, noise, labels, conditions, output, places, counts, 1 / parts)

    def _mean_loss(self, stream: Stream, batch: Batch) -> Tensor:
        own = batch.places[stream.name]
        x_0, x_t, t, noise, output = batch.x_0[own], batch.x_t[own], batch.t[own], batch.noise[own], batch.output[own]
        loss = eps_loss(output, noise)
        if stream.eps_weight is not None:
            loss = loss * stream.eps_weight.float().to(t.device)[t]
        if output.shape[1] == 2 * x_0.shape[1]:  # the model has learned the variance, too
            eps, variance = output.float().chunk(2, dim=1)
            loss = loss + variational_bound(eps.detach(), variance, x_0, x_t, t, self.diffusion)
        if stream.timestep_weight is not None:
            loss = loss * stream.timestep_weight.float().to(t.device)[t]
        return loss.sum() / stream.batch
