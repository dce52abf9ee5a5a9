"""The noise that a seed stands for, a model's answer, and a record of what models are asked."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor

from difftuning.models.pretrained import Pretrained

SHAPE = (4, 8, 8)


def first_noise(n: int, seed: int, generator_left: bool = False):
    """The noise of `seed`, as the docstring tells it: every sample has a generator with a seed of its own."""
    seeds = torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    x = torch.stack([torch.randn(SHAPE, generator=g) for g in generators])
    return (x, generators) if generator_left else x


@torch.no_grad()
def eps_and_variance(model: Pretrained, x: Tensor, t: int, labels: list[int]) -> tuple[Tensor, Tensor]:
    return model.denoiser(x, torch.full((len(x),), t), torch.tensor(labels)).chunk(2, dim=1)


@contextmanager
def spied(*models: Pretrained):
    """Record (which model, t, labels, x_t) at every call of the real denoisers."""
    calls: list[tuple[int, int, list[int], Tensor]] = []

    def recorder(which: int):
        def record(_, arguments):
            x, t, labels = arguments
            assert len(t) == len(labels) == len(x)
            assert len(t.unique()) == 1
            calls.append((which, int(t[0]), labels.tolist(), x.clone()))

        return record

    handles = [model.denoiser.register_forward_pre_hook(recorder(which)) for which, model in enumerate(models)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
