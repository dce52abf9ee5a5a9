"""A plan for a folder of pictures, read off the pilot: how many steps, at which guidance, how many minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...studies.gains import settings
from .protocols import OURS

if TYPE_CHECKING:
    import pandas


class Plan(NamedTuple):
    """What to run, and the number of pictures in the training sets that it was read off."""

    steps: int
    guidance: float
    minutes: float
    like: int

    def __repr__(self) -> str:
        return (
            f"{self.steps:,} steps, some {max(1, round(self.minutes))} min at this machine's speed; guidance {self.guidance:g}: "
            f"the best of our settings for {self.like:,} pictures, the nearest number that we have tried"
        )


def plan(pictures: int, table: pandas.DataFrame, seconds_per_step: float, method: str = OURS) -> Plan:
    """The step and guidance that suit a method best on validation pictures, of the pilot's sets with about as many pictures.

    Distances of two tasks have different scales, so each counts in multiples of its own best.
    """
    table = table[table.method == method]
    counts = table.training_pictures.unique()
    like = int(min(counts, key=lambda count: abs(np.log(count / pictures))))
    means = [settings(rows, method) for _, rows in table[table.training_pictures == like].groupby("set")]
    guidance, steps = sum(np.log(mean / mean.min()) for mean in means).idxmin()
    return Plan(int(steps), float(guidance), int(steps) * seconds_per_step / 60, like)
