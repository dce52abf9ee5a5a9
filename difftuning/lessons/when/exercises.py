"""The exercise of lesson 09: a paired gain over seeds with its interval."""

from __future__ import annotations

from typing import Callable

import numpy as np
import torch

from ...studies.gains import estimate
from ..exercises import Grade, compare, exercise, written

# Plain fine-tuning's distances and Diff-Tuning's, seed by seed: the seeds differ more than the methods.
CASES = [
    ([1.10, 2.30, 1.65], [0.94, 2.05, 1.37]),
    ([3.2, 2.6, 4.1, 3.7, 2.2], [3.0, 2.7, 3.5, 3.4, 2.1]),
    ([0.8, 1.3], [1.0, 1.5]),
]
NORMAL = 1.959964


@exercise("paired gain")
def paired_gain(answer: Callable) -> Grade:
    """answer(plain, ours) -> the mean of log(plain / ours) over seeds, and half the width of its 95 % interval (Student's t)."""
    found = []
    for plain, ours in CASES:
        pair = answer(np.array(plain), np.array(ours))
        written(pair)
        written(*pair)
        found.append([float(value) for value in pair])
    found, expected = (torch.tensor(values, dtype=torch.float64) for values in (found, [_right(*case) for case in CASES]))
    mean = compare(found[:, 0], expected[:, 0], place=_mean_of, separate=True)
    if not mean.passed:
        return Grade(False, f"{mean.message}{_hint(found[:, 0], MEANS)}")
    half = compare(found[:, 1], expected[:, 1], place=_half_of, separate=True)
    return half if half.passed else Grade(False, f"{half.message}{_hint(found[:, 1], HALVES)}")


def _logs(plain: list[float], ours: list[float]) -> np.ndarray:
    return np.log(np.array(plain) / np.array(ours))


def _right(plain: list[float], ours: list[float]) -> tuple[float, float]:
    found = estimate(_logs(plain, ours))
    return found.mean, found.half_width


def _quantile(count: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1))


def _half_width(spread: float, count: int) -> float:
    return _quantile(count) * spread / count**0.5


def _unpaired(plain: list[float], ours: list[float]) -> float:
    """The interval of a difference of two means of other runs: the seeds' own spread is in it twice."""
    return _half_width(float(np.hypot(np.std(np.log(plain), ddof=1), np.std(np.log(ours), ddof=1))), len(plain))


MEANS = {
    "that is the logarithm of a ratio of means: take the ratio seed by seed, then the mean of its logarithms":
        lambda plain, ours: float(np.log(np.mean(plain) / np.mean(ours))),
    "the sign is reversed: log(plain / ours) is above 0 where ours is lower":
        lambda plain, ours: -float(_logs(plain, ours).mean()),
    "that is the mean of plain - ours: take log(plain / ours)":
        lambda plain, ours: float(np.mean(np.array(plain) - np.array(ours))),
    "that is the mean of the ratios: take their logarithms first":
        lambda plain, ours: float(np.mean(np.array(plain) / np.array(ours))),
}  # fmt: skip
HALVES = {
    "that is the interval of an unpaired difference: the spread is that of the logarithms of the ratios, seed by seed": _unpaired,
    "that is the normal distribution's 1.96: with so few seeds take the quantile 0.975 of Student's t, n - 1 degrees of freedom":
        lambda plain, ours: NORMAL * float(np.std(_logs(plain, ours), ddof=1)) / len(plain) ** 0.5,
    "the standard deviation is divided by n: divide by n - 1 (ddof=1)":
        lambda plain, ours: _half_width(float(np.std(_logs(plain, ours))), len(plain)),
    "the division by the root of n is missing":
        lambda plain, ours: _quantile(len(plain)) * float(np.std(_logs(plain, ours), ddof=1)),
    "that is the whole width, not half of it":
        lambda plain, ours: 2 * _right(plain, ours)[1],
}  # fmt: skip


def _mean_of(case: int) -> str:
    return f"the mean of case {case + 1} ({len(CASES[case][0])} seeds)"


def _half_of(case: int) -> str:
    return f"half the width in case {case + 1} ({len(CASES[case][0])} seeds)"


def _hint(found: torch.Tensor, known: dict[str, Callable]) -> str:
    """What a wrong answer is, where it is one that is known."""
    for words, wrong in known.items():
        values = torch.tensor([wrong(*case) for case in CASES], dtype=torch.float64)
        if torch.allclose(found, values, rtol=5e-3):
            return f"; {words}"
    return ""
