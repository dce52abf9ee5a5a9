"""How much earlier a method of the ControlNet study gets its pictures to obey than another: by sudden convergence, and by other definitions of that step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from ..evaluation.agreement import steepest_step, sudden_convergence_step
from .control_cells import MAIN
from .controlnet import HELD
from .gains import Estimate, Gain, estimate, gain_of

if TYPE_CHECKING:
    import pandas

STEEPEST = "the steepest rise"
# other definitions of the step, by what they are called: (steps, scaled agreement of one run) -> step
DEFINITIONS: dict[str, Callable[[Sequence[int], Sequence[float]], int | None]] = {
    "a third of the way": lambda steps, scaled: sudden_convergence_step(steps, scaled, threshold=1 / 3, k=HELD),
    "two thirds of the way": lambda steps, scaled: sudden_convergence_step(steps, scaled, threshold=2 / 3, k=HELD),
    STEEPEST: lambda steps, scaled: steepest_step(steps, scaled, k=HELD),
}


def steps_saved(scores: pandas.DataFrame, method: str, other: str = MAIN[0]) -> dict[str, Estimate]:
    """By which share of its steps a method converges earlier than another, seed by seed: for each condition, and "mean" over them.

    A pair of runs of which one never converges is left out, and so is such a seed from the mean, which is over conditions that have a pair.
    """
    steps = scores.pivot(index="seed", columns=["method", "kind"], values="sudden_convergence").astype(float)
    saved = 1 - steps[method] / steps[other]  # a row for each seed, a column for each condition
    complete = saved.dropna(axis=1, how="all").dropna()
    return {kind: estimate(saved[kind].dropna().to_numpy()) for kind in saved} | {
        "mean": estimate(complete.mean(axis=1).dropna().to_numpy())
    }


def distance_lower(scores: pandas.DataFrame, method: str = MAIN[1], other: str = MAIN[0]) -> dict[str, Gain]:
    """A method's gain over another in Frechet distance, seed by seed: for each condition, and "mean" over them (seeds that have all)."""
    fids = scores.pivot(index="seed", columns=["method", "kind"], values="fid")
    gains = np.log(fids[other] / fids[method])
    return {kind: gain_of(gains[kind]) for kind in gains} | {"mean": gain_of(gains.dropna().mean(axis=1))}


def steps_by(definition: str, agreement: pandas.DataFrame) -> pandas.DataFrame:
    """The step of each run by one of `DEFINITIONS`, in the column `sudden_convergence`, so that `steps_saved` takes it: a row for each (kind, method, seed).

    `agreement`: a row for each check, with its run's kind, method and seed, `step` and `scaled`.
    """
    runs = agreement.groupby(["kind", "method", "seed"])[["step", "scaled"]]
    steps = runs.apply(lambda rows: DEFINITIONS[definition](rows.step.tolist(), rows.scaled.tolist()))
    return steps.astype(float).rename("sudden_convergence").reset_index()
