"""Do adapters forget less because they learn less?  Each beside plain tuning of all weights where that has learned as much.

What is learned is the loss on new pictures, after / before, or the Frechet distance of samples; plain tuning was measured after a
few numbers of steps in lesson 06.  Between two of them its path is taken for a straight line of logarithms.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Iterable, NamedTuple, Sequence

from ..numerals import listed, numeral, out_of
from ..parts import KEPT, Parts
from ..tuning.plane import LOSS, LOSS_ALIKE, SAMPLES, Place, Study, View, path, place, set_name
from .effects import LEAST_RISE, measured, pair


class Level(NamedTuple):
    """How far the loss on old pictures has risen under an adapter, and under plain tuning of all weights at the same loss on new pictures."""

    rise: float
    plain: float
    reached: bool  # whether plain tuning gets as low on new pictures at any measured step; if not, `plain` is where it is lowest
    ahead: float = 0.0  # if not: by how much lower the adapter is, as a logarithm

    @property
    def forgets_less(self) -> bool:
        return max(self.rise, LEAST_RISE) < (1 - KEPT) * max(self.plain, LEAST_RISE)


def at_equal_loss(parts: Parts, study: Study, task: str, name: str) -> Level:
    """An adapter alone beside plain tuning of all weights, by the loss on new pictures."""
    own = place(parts, View(task, LOSS), name)
    return _beside(own, [(0.0, 0.0), *_logarithms(path(study, View(task, LOSS)).values())])


def at_equal_samples(parts: Parts, study: Study, view: View, method: str) -> Level | None:
    """A method beside plain tuning of all weights, by the distance of samples; None where plain tuning is better as soon as it is measured."""
    own, walk = place(parts, view, method), _logarithms(path(study, view).values())
    return None if own.missed.mean > walk[0][1] else _beside(own, walk)


def _logarithms(places: Iterable[Place]) -> list[tuple[float, float]]:
    return [(where.forgotten.mean, where.missed.mean) for where in places]


def _beside(own: Place, walk: Sequence[tuple[float, float]]) -> Level:
    """A place beside the point where a walk over (forgotten, missed) first comes down to its height."""
    rise, level = math.expm1(own.forgotten.mean), own.missed.mean
    for (start, above), (end, below) in pairwise(walk):
        if below <= level:
            share = (above - level) / (above - below) if above > level else 0.0
            return Level(rise, math.expm1(start + share * (end - start)), True)
    forgotten, lowest = min(walk, key=lambda at: at[1])
    return Level(rise, math.expm1(forgotten), False, lowest - level)


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
        near = [name for name, level in found.items() if not level.reached and level.ahead < LOSS_ALIKE]
        hardly = f" ({listed(near)} by less than {100 * LOSS_ALIKE:.0f} %, which is about as low)" if near else ""
        said.append(
            f"On new pictures, {out_of(len(beyond), len(found), 'adapters')} {'gets' if len(beyond) == 1 else 'get'} lower than plain tuning of all "
            f"weights at any of the {numeral(len(walk))} numbers of steps that were measured{hardly}. At the best of these, {lowest:,} steps, "
            f"its loss on old pictures has risen by {_range([beyond[0].plain])}; theirs has risen by {_range([level.rise for level in beyond])}."
        )
    if reached:
        who = "an adapter" if not beyond else "one of the others"
        said.append(
            f"Where plain tuning of all weights has the same loss on new pictures as {who}, its loss on old ones has risen by "
            f"{_range([level.plain for level in reached])}, read off the lines; that of the adapters has risen by "
            f"{_range([level.rise for level in reached])}."
        )
    return " ".join(said)


def equal_samples_in_words(parts: Parts, study: Study) -> str:
    """Markdown, a line for each set: the same by the Frechet distance at guidance 1.5, of adapters alone and with Diff-Tuning."""
    return "\n".join(f"- *{set_name(task)}*: {_by_samples(parts, study, View(task, SAMPLES))}" for task in parts.tasks)


def _by_samples(parts: Parts, study: Study, view: View) -> str:
    first = min(path(study, view))
    said = []
    for methods, who in zip(zip(*map(pair, measured(parts))), ("alone", "with Diff-Tuning")):
        found = [level for method in methods if (level := at_equal_samples(parts, study, view, method))]
        count, verb = out_of(len(found), len(methods), "adapters"), "draws" if len(found) == 1 else "draw"
        if not found:
            said.append(f"{who}, none of the adapters draws as well as plain tuning of all weights does after {first:,} steps, the first "
                        "that samples were drawn after: there is nothing to compare.")  # fmt: skip
        else:
            said.append(f"{who}, {count} {verb} at least as well as plain tuning after {first:,} steps. Where that draws as well as they do"
                        f"{'' if all(level.reached for level in found) else ', or is at its best'}, its loss on old pictures has risen by "
                        f"{_range([level.plain for level in found])}; theirs has risen by "
                        f"{_range([level.rise for level in found])}.")  # fmt: skip
    return " ".join(each[0].upper() + each[1:] for each in said)


def _range(shares: Sequence[float]) -> str:
    least, most = (f"{100 * bound:.0f}" for bound in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least} to {most} %"
