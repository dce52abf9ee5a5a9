"""The exercises of lesson 10: how many steps show each picture so often, and what a training needs in memory."""

from __future__ import annotations

import math
from typing import Callable

import torch

from ...models.dit import build_dit
from ...training.streams import bank_places
from ..adapters.variants import FULL, with_adapter
from ..exercises import Grade, compare, exercise, written
from ..memory import training_memory
from .costs import LORA, at_a_time

CASES = [(32, 100, 32, 0.2), (500, 40, 32, 0.2), (1000, 10, 64, 0.0), (200, 25, 30, 0.2)]  # pictures, times, batch, share of the bank


@exercise("steps")
def steps(answer: Callable) -> Grade:
    """answer(pictures, times, batch, bank_share) -> the fewest steps after which each picture was shown so many times on average."""
    found, expected = [], []
    for pictures, times, batch, share in CASES:
        value = answer(pictures, times, batch, share)
        written(value)
        found.append(float(value))
        expected.append(math.ceil(pictures * times / (batch - bank_places(batch, share))))
    graded = compare(torch.tensor(found), torch.tensor(expected), place=lambda n: "with {} pictures, {} times, a batch of {} and a bank share of {} it".format(*CASES[n]), separate=True)  # fmt: skip
    without = [math.ceil(pictures * times / batch) for pictures, times, batch, _ in CASES]
    if not graded.passed and found == without:
        return Grade(False, f"{graded.message}: some places of the batch are the bank's")
    return graded


@exercise("memory")
def memory(answer: Callable) -> Grade:
    """answer(weights, trained, activations, pictures) -> bytes: numbers of weights, and bytes of activations of one picture."""
    found, expected, cases = [], [], []
    for trained in (FULL, LORA):
        with torch.device("meta"):
            denoiser = build_dit(width=64, num_heads=2, num_layers=3, latent_shape=(4, 16, 16), num_labels=10)
        one = training_memory(with_adapter(denoiser, trained), 1)
        for pictures in (1, 8):
            value = answer(one.weights // 4, one.gradients // 4, one.activations, pictures)
            written(value)
            found.append(float(value))
            expected.append(at_a_time(one, pictures).total)
            cases.append(f"{trained}, {pictures} at a time: the number of bytes")
    return compare(
        torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64), place=cases.__getitem__, separate=True
    )
