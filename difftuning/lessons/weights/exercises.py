"""The exercises of lesson 03: the distributions of t, their equivalent weights, the balance of the two terms."""

from __future__ import annotations

from typing import Callable

import torch

from ...diffusion.timestep_weights import loss_weights, reconsolidation_distribution, timestep_distribution
from ..exercises import Grade, compare, exercise, written
from .gradient_noise import second_moments

CHAIN, SHORT_CHAIN = 1000, 250
CROSSINGS = [(300, CHAIN, 1.0), (90, CHAIN, 1.0), (500, CHAIN, 1.0), (300, CHAIN, 2.0), (700, CHAIN, 0.5), (50, SHORT_CHAIN, 1.0)]
DISTRIBUTIONS = [("official", 1.0, CHAIN), ("official", 2.5, CHAIN), ("sigmoid", 0.4, CHAIN), ("official", 1.0, SHORT_CHAIN)]


@exercise("retention distribution")
def retention_distribution(answer: Callable) -> Grade:
    """answer(num_timesteps, power) -> (T,): the published code's falling distribution."""
    for chain, power in ((CHAIN, 1.0), (CHAIN, 2.5), (CHAIN, 0.0), (SHORT_CHAIN, 1.0)):
        expected = timestep_distribution(chain, power, descending=True)
        graded = compare(answer(chain, power), expected, separate=True)  # ranks that begin at 0 are wrong at the far end alone
        if not graded.passed:
            return Grade(False, f"at power {power:g} with {chain} timesteps: {graded.message}")
    return graded


@exercise("equivalent weights")
def equivalent_weights(answer: Callable) -> Grade:
    """answer(distribution) -> (T,): the loss weights that have its expected gradient when t is uniform."""
    for family, parameter, chain in DISTRIBUTIONS:
        distribution = reconsolidation_distribution(family, chain, parameter)
        graded = compare(answer(distribution.clone()), loss_weights(distribution), separate=True)
        if not graded.passed:
            return Grade(False, f"for the rising {family} distribution at {parameter:g} with {chain} timesteps: {graded.message}")
    return graded


@exercise("bank weight for a crossing")
def bank_weight_for_a_crossing(answer: Callable) -> Grade:
    """answer(crossing, num_timesteps, power) -> the bank weight at which the two terms pull alike at t = crossing."""
    found = [answer(*given) for given in CROSSINGS]
    written(*found)
    expected = [((crossing + 1) / (chain - crossing)) ** power for crossing, chain, power in CROSSINGS]
    return compare([float(value) for value in found], torch.tensor(expected, dtype=torch.float64), place=_crossing, separate=True)


@exercise("second moments")
def second_moments_of_both(answer: Callable) -> Grade:
    """answer(distribution, squares) -> (sampling, weighting): the mean squared length of one gradient either way."""
    t = torch.arange(CHAIN)
    rising, falling = timestep_distribution(CHAIN, 1.0), timestep_distribution(CHAIN, 2.5, descending=True)
    for distribution, squares in (
        (rising, torch.ones(CHAIN)),
        (rising, 1 / (1.0 + t)),
        (rising, 1.0 + t / CHAIN),
        (falling, 1 / (1.0 + t)),
    ):
        found = answer(distribution.clone(), squares.double())
        written(found)
        if len(found) != 2:
            return Grade(False, f"return two numbers, sampling and weighting, not {len(found)}")
        expected = torch.stack(second_moments(distribution, squares.double()))
        graded = compare([float(value) for value in found], expected, place=["sampling", "weighting"].__getitem__, separate=True)
        if not graded.passed:
            return graded
    return graded


def _crossing(index: int) -> str:
    crossing, chain, power = CROSSINGS[index]
    return f"the bank weight for a crossing at t = {crossing} of {chain}, power {power:g},"
