"""Do adapters forget less because they learn less?  Each beside plain tuning of all weights where that has learned as much.

What is learned is the loss on new pictures, after / before; plain tuning's walk over its steps is lesson 06's.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, Sequence

from ..parts import KEPT, Parts
from ..tuning.plane import LOSS, Study, View, path, place, set_name
from .effects import measured

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")


class Level(NamedTuple):
    """How far the loss on old pictures has risen under an adapter, and under plain tuning of all weights at the same loss on new pictures."""

    rise: float
    plain: float
    reached: bool  # whether plain tuning ever gets as low on new pictures; if not, `plain` is where it is lowest

    @property
    def forgets_less(self) -> bool:
        return self.rise < (1 - KEPT) * self.plain


def at_equal_loss(parts: Parts, study: Study, task: str, name: str) -> Level:
    """An adapter alone beside plain tuning of all weights; between two numbers of steps its walk is a straight line of logarithms."""
    own = place(parts, View(task, LOSS), name)
    rise = math.expm1(own.forgotten.mean)
    walk = [(0.0, 0.0), *((where.forgotten.mean, where.missed.mean) for where in path(study, View(task, LOSS)).values())]
    for (start, above), (end, below) in pairwise(walk):
        if below <= own.missed.mean:
            share = (above - own.missed.mean) / (above - below) if above > own.missed.mean else 0.0
            return Level(rise, math.expm1(start + share * (end - start)), True)
    return Level(rise, math.expm1(min(walk, key=lambda at: at[1])[0]), False)


def forgets_less_at_equal_loss(parts: Parts, study: Study) -> list[str]:
    """The adapters that forget less in every set, where plain tuning of all weights has learned as much or can learn no more."""
    return [name for name in measured(parts) if all(at_equal_loss(parts, study, task, name).forgets_less for task in parts.tasks)]


def equal_learning_in_words(parts: Parts, study: Study) -> str:
    """Markdown, a line for each set: the rise of the loss on old pictures under both, at the same loss on new ones."""
    return "\n".join(f"- *{set_name(task)}*: {_of_a_set(parts, study, task)}" for task in parts.tasks)


def _of_a_set(parts: Parts, study: Study, task: str) -> str:
    found = {name: at_equal_loss(parts, study, task, name) for name in measured(parts)}
    reached, beyond = ([level for level in found.values() if level.reached is which] for which in (True, False))
    said = []
    if beyond:
        walk = path(study, View(task, LOSS))
        lowest = min(walk, key=lambda step: walk[step].missed.mean)
        said.append(
            f"On new pictures, {how_many(len(beyond), len(found))} {'gets' if len(beyond) == 1 else 'get'} lower than plain tuning of all "
            f"weights ever does. At its lowest, after {lowest:,} steps, its loss on old pictures has risen by {_range([beyond[0].plain])}; "
            f"theirs has risen by {_range([level.rise for level in beyond])}."
        )
    if reached:
        who = "an adapter" if not beyond else "one of the others"
        said.append(
            f"Where plain tuning of all weights has the same loss on new pictures as {who}, its loss on old ones has risen by "
            f"{_range([level.plain for level in reached])}; that of the adapters has risen by {_range([level.rise for level in reached])}."
        )
    return " ".join(said)


def how_many(some: int, total: int) -> str:
    """ "all seven adapters", "two of the seven adapters", ..."""
    return f"all {NUMBERS[total]} adapters" if some == total else f"{NUMBERS[some]} of the {NUMBERS[total]} adapters"


def _range(shares: Sequence[float]) -> str:
    least, most = (f"{100 * bound:.0f}" for bound in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least} to {most} %"
