"""Unit noise, and some timesteps."""

from __future__ import annotations

import torch
from torch import Tensor

SOME_T = torch.tensor([0, 1, 7, 250, 999])


def draws(n: int = 5, shape: tuple[int, ...] = (2, 4, 4), count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, *shape, generator=generator) for _ in range(count)]
