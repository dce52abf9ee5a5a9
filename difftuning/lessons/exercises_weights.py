"""The exercises of lesson 03: the laws, their equivalent weights, the balance of the two terms."""

from __future__ import annotations

from typing import Callable

import torch

from ..schedules import family_distribution, loss_weights, timestep_distribution
from .exercises import Grade, compare, exercise, written
from .gradient_noise import second_moments

CHAIN = 1000
CROSSINGS = [(300, 1.0), (90, 1.0), (500, 1.0), (300, 2.0), (700, 0.5)]  # crossing, power
LAWS = [("official", 1.0), ("official", 2.5), ("sigmoid", 0.4)]


@exercise("retention law")
def retention_law(answer: Callable) -> Grade:
    """answer(num_timesteps, power) -> (T,): the published code's falling law."""
    for power in (1.0, 2.5, 0.0):
        expected = timestep_distribution(CHAIN, power, descending=True)
        graded = compare(answer(CHAIN, power), expected, separate=True)  # ranks that begin at 0 are wrong at the far end alone
        if not graded.passed:
            return Grade(False, f"at power {power:g}: {graded.message}")
    return graded


@exercise("equivalent weights")
def equivalent_weights(answer: Callable) -> Grade:
    """answer(law) -> (T,): the loss weights that have the law's expected gradient when t is uniform."""
    for family, parameter in LAWS:
        law = family_distribution(family, CHAIN, parameter)
        graded = compare(answer(law.clone()), loss_weights(law), separate=True)
        if not graded.passed:
            return Grade(False, f"for the rising {family} law at {parameter:g}: {graded.message}")
    return graded


@exercise("bank weight for a crossing")
def bank_weight_for_a_crossing(answer: Callable) -> Grade:
    """answer(crossing, num_timesteps, power) -> the bank weight at which the two terms pull alike at t = crossing."""
    found = [answer(crossing, CHAIN, power) for crossing, power in CROSSINGS]
    written(*found)
    expected = [((crossing + 1) / (CHAIN - crossing)) ** power for crossing, power in CROSSINGS]
    return compare([float(value) for value in found], torch.tensor(expected, dtype=torch.float64), place=_crossing, separate=True)


@exercise("second moments")
def second_moments_of_both(answer: Callable) -> Grade:
    """answer(law, squares) -> (sampling, weighting): the mean squared length of one gradient either way."""
    t = torch.arange(CHAIN)
    for squares in (torch.ones(CHAIN), 1 / (1.0 + t), 1.0 + t / CHAIN):
        law = timestep_distribution(CHAIN, 1.0)
        found = answer(law.clone(), squares.double())
        written(found)
        if len(found) != 2:
            return Grade(False, f"return two numbers, sampling and weighting, not {len(found)}")
        expected = torch.stack(second_moments(law, squares.double()))
        graded = compare([float(value) for value in found], expected, place=["sampling", "weighting"].__getitem__, separate=True)
        if not graded.passed:
            return graded
    return graded


def _crossing(index: int) -> str:
    crossing, power = CROSSINGS[index]
    return f"the bank weight for a crossing at t = {crossing}, power {power:g},"
