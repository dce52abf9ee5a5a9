"""What lesson 10 says of the reader's run and of the tables, in words that follow the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..numerals import listed
from ..when.runs import GUIDED, NEW, OLD, TASKS, by_pictures, called, lower
from .costs import CARDS, USED, duration, paper_operations, span

if TYPE_CHECKING:
    import pandas

PLAIN, OURS = "plain", "Diff-Tuning"
YOURS, BEFORE = "yours", "old"  # which pictures a loss is of
FALLS = ("it still falls at the last step", "it has stopped falling before")
ALIKE = 0.02  # less is no difference between two losses


def over_the_chain(curves: pandas.DataFrame) -> pandas.DataFrame:
    """Loss after / before by method, data and step: the geometric mean over the tenths of the chain."""
    logs = curves.assign(ratio=np.log(curves.ratio)).groupby(["method", "data", "step"], sort=False).ratio.mean()
    return np.exp(logs).reset_index()


def course(curves: pandas.DataFrame, method: str, data: str = YOURS) -> pandas.Series:
    """The same of one method, by step."""
    means = over_the_chain(curves)
    return means[(means.method == method) & (means.data == data)].set_index("step").ratio.sort_index()


def does_it_fall(curves: pandas.DataFrame, method: str) -> str:
    """Which of `FALLS`: does the loss on the held-out pictures still fall from the last measurement but one to the last?"""
    ratios = course(curves, method)
    return FALLS[0] if ratios.iloc[-1] < (1 - ALIKE) * ratios.iloc[:-1].min() else FALLS[1]


def stopping_in_words(curves: pandas.DataFrame) -> str:
    """In bold, Diff-Tuning beside plain fine-tuning after the last step; then where each was at its best."""
    last = curves.step.max()
    told = []
    for data, of in ((YOURS, "your held-out pictures"), (BEFORE, "old pictures")):
        share = 1 - course(curves, OURS, data)[last] / course(curves, PLAIN, data)[last]
        told.append(f"the loss on {of} {_lower(share)}")
    best = {method: course(curves, method).idxmin() for method in (PLAIN, OURS)}
    where = {method: "at the last step" if step == last else f"after {step:,} steps" for method, step in best.items()}
    return (
        f"**After {last:,} steps Diff-Tuning leaves {told[0]} and {told[1]} than plain fine-tuning does.** On yours, plain fine-tuning is at its best "
        f"{where[PLAIN]}, Diff-Tuning {where[OURS]}."
    )


def _lower(share: float) -> str:
    if abs(share) < ALIKE:
        return "about as high"
    return f"{100 * abs(share):.0f} % {'lower' if share > 0 else 'higher'}"


def tables_in_words(pictures: int, gains: pandas.DataFrame) -> str:
    """Markdown, a line for each task: what Diff-Tuning did in our runs with the number of pictures that is nearest to the reader's."""
    lines = []
    for task in TASKS:
        found = {measure: by_pictures(gains, task, measure) for measure in (NEW, OLD, GUIDED)}
        tried = sorted(set.intersection(*map(set, found.values())))
        near = min(tried, key=lambda count: abs(np.log(count / pictures)))
        told = [f"the {measure} {_told(found[measure][near], measure)}" for measure in (NEW, OLD)]
        lines.append(f"- *{task}, {near:,} pictures*: {listed(told)}; samples {called(found[GUIDED][near], GUIDED)}")
    return "\n".join(lines)


def _told(gain, measure: str) -> str:
    if called(gain, measure) == "about the same":
        return "about the same"
    return f"{abs(lower(gain)):.0f} % {'lower' if gain.mean > 0 else 'higher'}"


def hours_in_words(speed: float) -> str:
    """How long the paper's training takes at so many operations a second, and on the slowest and the fastest of `CARDS`."""
    work = paper_operations()
    slow, fast = min(CARDS, key=lambda card: card.operations), max(CARDS, key=lambda card: card.operations)
    on = {card.name: sorted(work / (used * card.operations) for used in USED) for card in (slow, fast)}
    cards = ", ".join(f"{span(least, most)} on a card of the kind {name}" for name, (least, most) in on.items())
    return f"**At your machine's speed, {speed / 1e9:.0f} billion operations a second, it would take about {duration(work / speed)}; by our sum {cards}.**"
