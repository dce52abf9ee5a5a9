"""The exercises of lesson 04: the distributions of t, their equivalent weights, the balance of the two terms, equal noise."""

from __future__ import annotations

from typing import Callable

import torch

from ...diffusion.timestep_weights import loss_weights, reconsolidation_distribution, timestep_distribution
from ..exercises import Grade, compare, exercise, written
from .schedules import scaled_schedule

CHAIN, SHORT_CHAIN = 1000, 250
CROSSINGS = [(300, CHAIN, 1.0), (90, CHAIN, 1.0), (500, CHAIN, 1.0), (300, CHAIN, 2.0), (700, CHAIN, 0.5), (50, SHORT_CHAIN, 1.0)]
DISTRIBUTIONS = [("official", 1.0, CHAIN), ("official", 2.5, CHAIN), ("sigmoid", 0.4, CHAIN), ("official", 1.0, SHORT_CHAIN)]
SAME_NOISE = [(100, 1, 16), (400, 1, 16), (320, 16, 1), (250, 1, 4), (500, 64, 1)]  # t, and the SNR of both schedules over the linear one's


@exercise("retention distribution")
def retention_distribution(answer: Callable) -> Grade:
    """answer(num_timesteps, power) -> (T,): the published code's falling distribution."""
    for chain, power in ((CHAIN, 1.0), (CHAIN, 2.5), (CHAIN, 0.0), (SHORT_CHAIN, 1.0)):
        expected = timestep_distribution(chain, power, descending=True)
        graded = compare(answer(chain, power), expected, separate=True)  # ranks that begin at 0 are wrong at the far end alone
        if not graded.passed:
            return Grade(
                False, f"at power {power:g} with {chain} timesteps: {graded.message}; compare the pink line of Diff-Tuning's panel"
            )
    return graded


@exercise("equivalent weights")
def equivalent_weights(answer: Callable) -> Grade:
    """answer(distribution) -> (T,): the loss weights that have its expected gradient when t is uniform."""
    for family, parameter, chain in DISTRIBUTIONS:
        distribution = reconsolidation_distribution(family, chain, parameter)
        graded = compare(answer(distribution.clone()), loss_weights(distribution), separate=True)
        if not graded.passed:
            where = f"for the rising {family} distribution at {parameter:g} with {chain} timesteps"
            return Grade(False, f"{where}: {graded.message}; the right panel of the two dials draws these weights")
    return graded


@exercise("bank weight for a crossing")
def bank_weight_for_a_crossing(answer: Callable) -> Grade:
    """answer(crossing, num_timesteps, power) -> the bank weight at which the two terms count alike at t = crossing."""
    found = [answer(*given) for given in CROSSINGS]
    written(*found)
    expected = [((crossing + 1) / (chain - crossing)) ** power for crossing, chain, power in CROSSINGS]
    graded = compare([float(value) for value in found], torch.tensor(expected, dtype=torch.float64), place=_crossing, separate=True)
    return graded if graded.passed else Grade(False, f"{graded.message}; at the dotted line of the two dials both curves are equally high")


@exercise("the same noise")
def the_same_noise(answer: Callable) -> Grade:
    """answer(t, snr, other_snr) -> the timestep of the other schedule with the SNR that this one has at t; one beside it will do."""
    for t, factor, other in SAME_NOISE:
        snr, other_snr = scaled_schedule(factor).snr, scaled_schedule(other).snr
        found = answer(t, snr.clone(), other_snr.clone())
        written(found)
        expected = int((other_snr > snr[t]).sum())  # the SNR falls: so many timesteps have less noise
        if abs(float(found) - expected) > 1:
            where = f"t = {t} at {factor} times the linear schedule's SNR has the noise of t = {expected} at {other} times it"
            return Grade(False, f"{where}, yours is {float(found):g}; the filmstrip of schedules shows which way it moves")
    return Grade(True, "exact")


def _crossing(index: int) -> str:
    crossing, chain, power = CROSSINGS[index]
    return f"the bank weight for a crossing at t = {crossing} of {chain}, power {power:g},"
