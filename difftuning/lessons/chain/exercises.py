"""The exercises of lesson 02: the loss ratio of each tenth, and where a replaced denoiser takes over."""

from __future__ import annotations

from typing import Callable

import torch

from ..exercises import Grade, compare, exercise, written

SWITCHES = {
    (0, 50, 1000): 0, (0.1, 50, 1000): 100, (0.04, 25, 1000): 40, (0.5, 10, 1000): 500, (1, 50, 1000): 1000, (0.2, 25, 250): 50,
    (0.05, 25, 1000): 40, (0.07, 25, 1000): 80,  # 1.25 steps: one whole one; 1.75: two
}  # fmt: skip


@exercise("ratio by tenth")
def ratio_by_tenth(answer: Callable) -> Grade:
    """answer(before, after) of shape (10, n) -> (10,): the ratio of the tenths' mean losses."""
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 10, 4, generator=generator, dtype=torch.float64) + 0.1
    found, expected = answer(before.clone(), after.clone()), after.sum(1) / before.sum(1)
    graded = compare(found, expected, place=lambda tenth: f"tenth {tenth + 1}")
    if graded.passed:
        return graded
    if compare(found, (after / before).mean(1)).passed:
        return Grade(False, f"that is the mean of the ratios; {graded.message}")
    if compare(found, 1 / expected).passed:
        return Grade(False, f"that is before over after, in which learning would look like harm in section 2's figure; {graded.message}")
    return graded


@exercise("switch at")
def switch_at(answer: Callable) -> Grade:
    """answer(fraction, steps, num_timesteps) -> below which timestep the source model samples; whole steps change hands."""
    found = [answer(*given) for given in SWITCHES]
    written(*found)
    places = ["the switch for fraction {}, {} steps, {} timesteps".format(*given) for given in SWITCHES]
    expected = torch.tensor(list(SWITCHES.values()), dtype=torch.float64)
    graded = compare([float(value) for value in found], expected, place=places.__getitem__, separate=True)
    if graded.passed:
        return graded
    exactly = torch.tensor([fraction * chain for fraction, _, chain in SWITCHES], dtype=torch.float64)
    if compare([float(value) for value in found], exactly, separate=True).passed:
        return Grade(False, f"{graded.message}; only whole steps change hands: round their number first")
    other_end = torch.tensor([chain for *_, chain in SWITCHES], dtype=torch.float64) - expected
    if compare([float(value) for value in found], other_end, separate=True).passed:
        return Grade(
            False, f"{graded.message}; the last steps are those of small t: in section 6's pictures they are the finishing touches"
        )
    return graded
