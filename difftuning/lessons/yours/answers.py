"""What lesson 10 says of the reader's run and of the tables, in words that follow the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...studies.gains import Estimate
from ..numerals import listed
from ..parts import NOT_CLEAR, SAME, change_in_words
from ..tuning.plane import LOSS_ALIKE
from ..when.runs import GUIDED, MEASURES, NEW, OLD, TASKS, by_pictures, called
from .costs import duration, paper_operations, span, times

if TYPE_CHECKING:
    import pandas

PLAIN, OURS = "plain", "Diff-Tuning"
# Which pictures a loss is of: the reader's held-out ones, those trained on, the source's.
YOURS, LEARNED, BEFORE = "yours", "learned", "old"
FALLS = ("it falls to the last step", "it stops falling earlier")


def over_the_chain(table: pandas.DataFrame) -> pandas.DataFrame:
    """Loss after / before by method, data, step and, where there are several, seed: the geometric mean over the tenths of the chain."""
    keys = [key for key in ("method", "data", "step", "seed") if key in table]
    logs = table.assign(ratio=np.log(table.ratio)).groupby(keys, sort=False).ratio.mean()
    return np.exp(logs).reset_index()


def course(table: pandas.DataFrame, method: str, data: str = YOURS) -> pandas.Series:
    """The same of one method, by step: the geometric mean over seeds."""
    means = over_the_chain(table)
    means = means[(means.method == method) & (means.data == data)]
    return np.exp(np.log(means.ratio).groupby(means.step).mean())


def best_step(ratios: pandas.Series) -> int:
    """The first step at which a course is, but for next to nothing, at its lowest."""
    return int(ratios.index[ratios <= (1 + LOSS_ALIKE) * ratios.min()][0])


def does_it_fall(curves: pandas.DataFrame, method: str) -> str:
    """Which of `FALLS`: is the loss on the held-out pictures clearly lower after the last step than at any measurement before?"""
    ratios = course(curves, method)
    return FALLS[0] if best_step(ratios) == ratios.index[-1] else FALLS[1]


def stopping_in_words(curves: pandas.DataFrame) -> str:
    """In bold, Diff-Tuning beside plain fine-tuning after the last step; then where each was at its best."""
    last = curves.step.max()
    told = []
    for data, of in ((YOURS, "your held-out pictures"), (BEFORE, "old pictures")):
        told.append(f"the loss on {of} is {_beside(*(course(curves, method, data)[last] for method in (PLAIN, OURS)))}")
    best = {method: best_step(course(curves, method)) for method in (PLAIN, OURS)}
    until = {method: "to the last step" if step == last else f"until step {step:,}" for method, step in best.items()}
    return (
        f"**After {last:,} steps of Diff-Tuning, compared with plain fine-tuning, {' and '.join(told)}.** On your held-out pictures plain fine-tuning gets "
        f"better {until[PLAIN]}, Diff-Tuning {until[OURS]}."
    )


def long_in_words(table: pandas.DataFrame) -> str:
    """In bold, from where on the loss on held-out pictures does not fall in the long runs, how much higher it is at their end, and which method gets lower."""
    told, courses = [], {method: course(table, method) for method in (PLAIN, OURS)}
    for ratios, name in zip(courses.values(), ("plain fine-tuning", "Diff-Tuning")):
        rise = ratios.iloc[-1] / ratios.min() - 1
        end = f"is {100 * rise:.0f} % above its lowest by step {ratios.index[-1]:,}" if rise > LOSS_ALIKE else "stays there"
        told.append(f"under {name} the loss on held-out pictures falls until step {best_step(ratios):,} and {end}")
    return f"**{told[0][0].upper()}{told[0][1:]}; {told[1]}. At its lowest, Diff-Tuning's is {_beside(*(ratios.min() for ratios in courses.values()))}.**"


def _beside(plain: float, ours: float) -> str:
    return change_in_words(Estimate(float(np.log(plain / ours)), float("nan"), 1), LOSS_ALIKE)


def tables_in_words(pictures: int, gains: pandas.DataFrame) -> str:
    """Markdown, a line for each task: what Diff-Tuning did in our runs with the number of pictures that is nearest to the reader's."""
    lines = []
    for task in TASKS:
        found = {measure: by_pictures(gains, task, measure) for measure in (NEW, OLD, GUIDED)}
        tried = sorted(set.intersection(*map(set, found.values())))
        near = min(tried, key=lambda count: abs(np.log(count / pictures)))
        told = [f"the {measure} {change_in_words(found[measure][near], MEASURES[measure])}" for measure in (NEW, OLD)]
        lines.append(
            f"- *{task}, {near:,} pictures*: {listed(told)}; samples {called(found[GUIDED][near], GUIDED).replace(SAME, NOT_CLEAR)}"
        )
    return "\n".join(lines)


def hours_in_words(speed: float) -> str:
    """How long the paper's training takes at so many operations a second, and on the slowest and the fastest of `CARDS`."""
    work = paper_operations()
    of_cards = times(work)
    slow, fast = (choose(of_cards, key=of_cards.__getitem__) for choose in (max, min))
    cards = ", ".join(f"{span(*of_cards[name])} on one {name}" for name in (slow, fast))
    return f"**At your machine's speed, {speed / 1e9:.0f} billion operations a second, it would take about {duration(work / speed)}; by our sum {cards}.**"
