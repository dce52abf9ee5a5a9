"""What is trained on: streams of pictures, each with its own law over the timesteps.

    loss = sum over streams of  weight * E_{t ~ law} [ importance(t) * l(x_0, t) ]

Plain training is one stream under the uniform law.  Diff-Tuning is two: target pictures
under the rising law, bank pictures under the falling one.  All draws of a step are a
function of (seed, stream, step) alone: that makes resuming exact and lets several processes
cut one global batch between them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .diffusion import Diffusion, eps_loss, variational_bound


@dataclass
class Stream:
    """One set of training pictures and how it enters the loss."""

    name: str
    latents: Tensor  # (N, C, h, w)
    labels: Tensor  # int64 (N,), rows of the label table
    batch: int  # pictures of this stream in each global batch
    law: Tensor  # float64 (T,), probability of each timestep
    weight: float = 1.0  # of this stream's mean loss in the total
    importance: Tensor | None = None  # (T,), multiplies the whole loss at t; None is 1
    eps_weight: Tensor | None = None  # (T,), multiplies the eps term alone (P2, Min-SNR); None is 1
    label_drop: float = 0.0
    null_label: int = 0
    mirrored: Tensor | None = None  # latents of the mirrored pictures, where flips are allowed
    picture_law: Tensor | None = None  # float64 (N,); None goes through the set in shuffled epochs
    _epochs: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def draw(self, seed: int, step: int) -> Draw:
        """This stream's share of the global batch at a step, on the CPU."""
        generator = seeded_generator(seed, self.name, step)
        t = torch.multinomial(self.law, self.batch, replacement=True, generator=generator)
        noise = torch.randn(self.batch, *self.latents.shape[1:], generator=generator)
        dropped = torch.rand(self.batch, generator=generator) < self.label_drop
        flipped = torch.rand(self.batch, generator=generator) < 0.5
        index = self._pictures(seed, step, generator)
        x_0 = self.latents[index].float()
        if self.mirrored is not None:
            x_0 = torch.where(flipped.reshape(-1, 1, 1, 1), self.mirrored[index].float(), x_0)
        labels = torch.where(dropped, self.null_label, self.labels[index])
        return Draw(x_0, t, noise, labels)

    def _pictures(self, seed: int, step: int, generator: torch.Generator) -> Tensor:
        if self.picture_law is not None:
            return torch.multinomial(self.picture_law, self.batch, replacement=True, generator=generator)
        size = len(self.latents)
        places = torch.arange(step * self.batch, (step + 1) * self.batch)
        return torch.stack([self._order(seed, place // size)[place % size] for place in places.tolist()])

    def _order(self, seed: int, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a batch touches two neighbouring epochs at most, or small sets wholly
                self._epochs.pop(min(self._epochs))
            generator = seeded_generator(seed, f"{self.name} order", epoch)
            self._epochs[epoch] = torch.randperm(len(self.latents), generator=generator)
        return self._epochs[epoch]


@dataclass(frozen=True)
class Draw:
    x_0: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)
    labels: Tensor  # (B,)


class Objective:
    """The weighted sum of the streams' losses under one forward process."""

    def __init__(self, streams: list[Stream], diffusion: Diffusion, seed: int):
        for stream in streams:
            if len(stream.latents) == 0 or stream.batch == 0:
                raise ValueError(f"the {stream.name} stream is empty: {len(stream.latents)} pictures, {stream.batch} a batch")
        self.streams, self.diffusion, self.seed = streams, diffusion, seed

    def losses(self, model: nn.Module, step: int, device: torch.device, *, part: int = 0, parts: int = 1) -> dict[str, Tensor]:
        """Each stream's mean loss at a step, or one part's contribution to it.

        A part takes every `parts`-th sample of each stream and divides by the *global* count,
        so that parts add up to the whole batch's loss and gradient however they are cut.
        """
        draws = [stream.draw(self.seed, step) for stream in self.streams]
        cut = slice(part, None, parts)
        x_0, t, noise, labels = (
            torch.cat([getattr(draw, name)[cut] for draw in draws]).to(device) for name in ("x_0", "t", "noise", "labels")
        )
        x_t = self.diffusion.q_sample(x_0, t, noise)
        output = model(x_t, t, labels)  # one forward for all streams
        sizes = [len(draw.t[cut]) for draw in draws]
        pieces = zip(self.streams, *(tensor.split(sizes) for tensor in (output, x_0, x_t, noise, t)))
        return {stream.name: self._mean_loss(stream, *tensors) for stream, *tensors in pieces}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        return sum(stream.weight * losses[stream.name] for stream in self.streams)

    def _mean_loss(self, stream: Stream, output: Tensor, x_0: Tensor, x_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        loss = eps_loss(output, noise)
        if stream.eps_weight is not None:
            loss = loss * stream.eps_weight.float().to(t.device)[t]
        if output.shape[1] == 2 * x_0.shape[1]:  # learned variance
            eps, variance = output.float().chunk(2, dim=1)
            loss = loss + variational_bound(eps.detach(), variance, x_0, x_t, t, self.diffusion)
        if stream.importance is not None:
            loss = loss * stream.importance.float().to(t.device)[t]
        return loss.sum() / stream.batch


def seeded_generator(seed: int, purpose: str, index: int) -> torch.Generator:
    """A CPU generator whose draws depend on these three alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
