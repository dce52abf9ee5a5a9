"""Which samples repeat a training picture, and which one."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSER = 1 / 3  # of the distance to the second nearest training picture


def nearest_training(samples: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample (N, 3, H, W) the place of its nearest training picture (M, 3, H, W), int64 (N,), and whether it is a copy, bool (N,).

    Distances are in pixels.  A copy is less than a third as far from its nearest training picture as from the second nearest.
    """
    distances = torch.cdist(samples.flatten(1), training.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)
    near, places = distances.topk(2, dim=1, largest=False)
    return places[:, 0], near[:, 0] < CLOSER * near[:, 1]
