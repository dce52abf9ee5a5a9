"""The exercise of lesson 00: which samples are copies of training pictures?"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from ...evaluation.metrics import nearest_training
from ..exercises import Grade, exercise, written

FIGURE = 'compare each sample with the row "nearest" below it, in the figure of the digits'


@exercise("copies")
def copies(answer: Callable) -> Grade:
    """answer(distances) of shape (N, M), samples to training pictures -> bool (N,): which samples are copies."""
    samples, training = _cases()
    distances = torch.cdist(samples.flatten(1), training.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    found = answer(distances.clone())
    written(found)
    found = torch.as_tensor(found)
    if found.shape != (len(samples),):
        return Grade(False, f"the shape is {tuple(found.shape)}, it should be {(len(samples),)}: one answer for each sample")
    truth = nearest_training(samples, training)[1]
    wrong = (found.bool() != truth).nonzero().flatten().tolist()
    if not wrong:
        return Grade(True, "exact")
    near = distances.sort(dim=1).values[wrong[0]]
    said, so = ("a copy", "it is none") if found[wrong[0]] else ("no copy", "it is one")
    where = f"sample {wrong[0]}: the nearest training picture is {near[0]:.2f} away and the second nearest {near[1]:.2f}"
    return Grade(False, f"{len(wrong)} of {len(truth)} are wrong; {where}, you say {said}, and {so}; {FIGURE}")


def _cases() -> tuple[Tensor, Tensor]:
    """Samples between two training pictures, from near the first to half-way, the pictures being near one another or far apart."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    training = torch.stack([first[0], first[0] + 0.1 * first[1], first[1], -first[1]])
    ways = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]).reshape(-1, 1, 1, 1)
    near_pair = training[0] + ways * (training[1] - training[0])
    far_pair = training[2] + ways * (training[3] - training[2])
    return torch.cat([near_pair, far_pair]), training.flip(0)
