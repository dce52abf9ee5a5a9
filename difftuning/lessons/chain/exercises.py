"""The exercises of lesson 02: the loss ratio of each tenth, and when to stop."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from ..exercises import Grade, compare, exercise, written

STEPS = (100, 200, 400, 800, 1600)
# Losses after each of them: the data end gets worse, the noise end better, the middle is best half-way.
LOSSES = torch.stack([
    torch.tensor([place * (0.5 - tenth / 9) + 0.9 * abs(place - 2.4) * (tenth in (3, 7, 8)) for tenth in range(10)]) for place in range(5)
]).double() + 5  # fmt: skip


@exercise("ratio by tenth")
def ratio_by_tenth(answer: Callable) -> Grade:
    """answer(before, after) of shape (10, n) -> (10,): the ratio of the tenths' mean losses."""
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 10, 4, generator=generator, dtype=torch.float64) + 0.1
    found, expected = answer(before.clone(), after.clone()), after.sum(1) / before.sum(1)
    graded = compare(found, expected, place=lambda tenth: f"tenth {tenth + 1}")
    if graded.passed:
        return graded
    hint = ""
    if compare(found, (after / before).mean(1)).passed:
        hint = "that is the mean of the ratios; "
    elif compare(found, 1 / expected).passed:
        hint = "that is before over after, in which learning would look like harm; "
    return Grade(
        False, f"{hint}{graded.message}; look at the figure of section 3: each point is one such ratio, below 1 where the loss has fallen"
    )


@exercise("best stop")
def best_stop(answer: Callable) -> Grade:
    """answer(steps, losses (S, 10), tenths) -> the number of steps with the lowest mean loss over those tenths."""
    for tenths in ([10], [1, 2, 3], [4, 8, 9], list(range(1, 11))):
        found = answer(list(STEPS), LOSSES.clone(), list(tenths))
        written(found)
        by_row = {name: STEPS[int(means.argmin())] for name, means in _readings(tenths).items()}
        if float(found) == by_row.pop("right"):
            continue
        mistake = next((name for name, step in by_row.items() if float(found) == step), None)
        hint = f"that is {mistake}" if mistake else "take the mean over those tenths in each row, and the steps of the lowest"
        return Grade(False, f"for tenths {tenths} you say {found}: {hint}; look where the curves of section 4 are lowest")
    return Grade(True, "exact")


def _readings(tenths: list[int]) -> dict[str, Tensor]:
    """What may be taken for the mean over tenths, counted from 1: right, and in three ways wrong."""
    places = torch.tensor(tenths)
    return {
        "right": LOSSES[:, places - 1].mean(1),
        "the best for tenths counted from 0: tenth 1 is column 0": LOSSES[:, places.clamp(max=9)].mean(1),
        "the best over the whole chain": LOSSES.mean(1),
        "where the loss is highest": -LOSSES[:, places - 1].mean(1),
    }
