"""The exercises of lesson 06: the distillation loss, and the front of a plane."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor, nn

from ...diffusion.regularizers import distillation
from ..exercises import Grade, compare, exercise, written

CHANNELS, BATCH = 3, 5
# Points of two coordinates, less is better of both, and the places of those that no other beats.
PLANES = [
    ([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], {0, 1, 2}),
    ([(1.0, 3.0), (2.0, 3.0), (2.0, 2.0), (3.0, 2.5)], {0, 2}),
    ([(2.0, 2.0), (1.0, 1.0), (2.0, 2.0), (1.0, 1.0), (1.0, 1.5)], {1, 3}),
    ([(1.5, 1.5)], {0}),
]


class _Toy(nn.Module):
    """A denoiser of two weights that is told t and labels, and answers with noise and variance."""

    def __init__(self, scale: float):
        super().__init__()
        self.noise, self.variance = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(1 - scale))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        told = (t / 100 + labels).reshape(-1, 1, 1, 1)
        return torch.cat([self.noise * x_t + told * self.noise, self.variance * x_t * told], dim=1)


@exercise("distillation loss")
def distillation_loss(answer: Callable) -> Grade:
    """answer(model, frozen, x_t, t, labels) -> the library's distillation, mean over the batch; its gradient goes into the model alone."""
    model, frozen = _Toy(0.7), _Toy(0.4)
    generator = torch.Generator().manual_seed(0)
    x_t, t, labels = torch.randn(BATCH, CHANNELS, 4, 4, generator=generator), torch.arange(BATCH) * 9, torch.arange(BATCH) % 3
    outputs = [net(x_t, t, labels) for net in (model, frozen)]
    eps, teacher = (output[:, :CHANNELS] for output in outputs)
    expected = distillation(eps, teacher.detach()).mean()
    found = answer(model, frozen, x_t.clone(), t.clone(), labels.clone())
    written(found)
    graded = compare(found, expected.detach(), place=lambda _: "the loss")
    if not graded.passed:
        whole = (outputs[0] - outputs[1]).square().mean()
        hint = "that compares all channels: the first half of the output is the noise, the second half the variance" \
            if compare(found, whole.detach()).passed else _scale_hint(found, expected)  # fmt: skip
        return Grade(False, f"{graded.message}{hint and f'; {hint}'}")
    if not found.requires_grad:
        return Grade(False, "the number is right, but no gradient reaches the model: only the frozen model's answer is a constant")
    found.backward()
    if frozen.noise.grad is not None:
        return Grade(False, "the number is right, but a gradient flows into the frozen model: compute its answer under torch.no_grad()")
    gradient = torch.autograd.grad(expected, model.noise)[0]
    return compare(model.noise.grad, gradient, place=lambda _: "the gradient")


@exercise("front")
def front(answer: Callable) -> Grade:
    """answer(points) -> the places of the points that no other beats: at least as good in both coordinates and better in one; less is better."""
    for points, expected in PLANES:
        found = answer(list(points))
        written(found)
        found = {int(place) for place in found}
        if missing := expected - found:
            place = min(missing)
            return Grade(False, f"of {points} you leave out place {place}, {points[place]}: no other is as good on both and better on one")
        if more := found - expected:
            place = min(more)
            if not 0 <= place < len(points):
                return Grade(False, f"{place} is no place of {len(points)} points, which are counted from 0")
            winner = next(other for other in points if _beats(other, points[place]))
            return Grade(False, f"of {points} you keep place {place}, {points[place]}, which {winner} beats")
    return Grade(True, "exact")


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def _scale_hint(found: Any, expected: Tensor) -> str:
    """Where a sum stands for a mean."""
    ratio = float(torch.as_tensor(found).detach().double().sum() / expected.detach())
    sums = {
        BATCH * CHANNELS * 16: "take the mean over all numbers, not the sum",
        CHANNELS * 16: "take the mean over each picture's numbers, too",
    }
    return next((words for times, words in sums.items() if abs(ratio / times - 1) < 1e-3), "")
