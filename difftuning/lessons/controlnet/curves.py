"""Made-up agreement curves whose step of sudden convergence is known, for lesson 08's exercise."""

from __future__ import annotations

import numpy as np


def noisy_curve(at: int, *, noise: float = 0.1, peaks: tuple[int, ...] = (), checks: int = 30, every: int = 20,
                seed: int = 0) -> tuple[list[int], list[float]]:  # fmt: skip
    """Steps and scaled agreement of a run that jumps at step `at`: 0 before and 1 after, noise on both, and single high checks at `peaks`."""
    steps = np.arange(checks) * every
    scores = (steps >= at) + np.random.default_rng(seed).normal(0, noise, checks)
    scores[np.isin(steps, peaks)] = 0.8
    return steps.tolist(), scores.tolist()
