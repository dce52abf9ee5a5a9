"""The exercise of lesson 00: which pictures are garments, told by the real picture nearest to each?"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from ..exercises import Grade, exercise, written

FIGURE = "in the first figure of the three models the counted garments have a frame"


@exercise("garments")
def garments(answer: Callable) -> Grade:
    """answer(samples, real, is_garment): features (N, D) and (M, D), bool (M,) -> how many samples are nearest to a garment."""
    samples, real, is_garment = _features()
    found = answer(samples.clone(), real.clone(), is_garment.clone())
    written(found)
    found = int(found)
    distances = torch.cdist(samples, real)
    expected = int(is_garment[distances.argmin(1)].sum())
    if found == expected:
        return Grade(True, f"exact: {expected} of {len(samples)} are garments")
    mistakes = {
        int(is_garment[distances.argmin(0)].sum()): "that asks for the sample nearest to each real picture: turn it round",
        int(is_garment[distances.argmax(1)].sum()): "that is the farthest real picture of each sample",
        len(samples): "that is the number of samples: count those whose nearest picture is a garment",
        int(is_garment.sum()): "that is the number of real garments: look each sample's nearest picture up in `is_garment`",
    }
    hint = mistakes.get(found, "take each sample's nearest real picture, and count those that are garments")
    return Grade(False, f"{found} of {len(samples)} is wrong, it should be {expected}: {hint}; {FIGURE}")


def _features() -> tuple[Tensor, Tensor, Tensor]:
    """Thirty samples and fifty real pictures, twenty of them garments, in a space of five features."""
    generator = torch.Generator().manual_seed(3)
    is_garment = torch.arange(50) % 5 < 2
    real = torch.randn(50, 5, generator=generator) + 1.5 * is_garment[:, None]
    return torch.randn(30, 5, generator=generator) + 0.8, real, is_garment
