"""Where each method stands: what it has learned of the new pictures against what it has forgotten of the old ones.

The runs are those of the study "baselines"; further step counts of the same runs come from the study "pilot".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Callable, Iterable, Mapping, NamedTuple

import numpy as np

from ...studies.gains import Estimate, read_table
from ..parts import ALIKE, GUIDANCES, RUNS, SIDES, STEPS, TENTHS, Parts, is_test, log_score, of_runs, ratios, read_parts

if TYPE_CHECKING:
    import pandas

FAMILIES = {
    "stop early": ("early stopping",),
    "weight the loss": ("P2", "Min-SNR"),
    "hold on": ("L2-SP", "EWC", "distillation"),
    "replay": ("prior preservation", "hard threshold 0.25", "hard threshold 0.5", "hard threshold 0.75", "Diff-Tuning"),
}
METHODS = ("plain", *(method for family in FAMILIES.values() for method in family))
TERMS = ("plain", "reconsolidation only", "retention only", "Diff-Tuning")
LOSS = "loss on new pictures"
MEASURES = {LOSS: None} | {f"samples at guidance {guidance}": guidance for guidance in GUIDANCES}  # of the new task -> guidance
SAMPLES = "samples at guidance 1.5"
CHAIN = {"whole": TENTHS, "data end": TENTHS[:3], "noise end": TENTHS[-3:]}  # part -> its tenths
LOSS_ALIKE = 0.02  # less is no difference between two losses


class Study(NamedTuple):
    """Scores and losses of all methods, by the number of training steps."""

    at: Mapping[int, Parts]

    @property
    def end(self) -> Parts:
        """After as many steps as methods are compared at."""
        return self.at[STEPS]

    @property
    def methods(self) -> list[str]:
        """Those of `METHODS` that the tables hold."""
        return self.end.present(METHODS)


class View(NamedTuple):
    """Which plane: of what task, the new pictures measured how, and which part of the chain counts."""

    task: str
    measure: str = SAMPLES
    part: str = "whole"

    @property
    def margins(self) -> tuple[float, float]:
        """Less is no difference: of old pictures, and of new ones."""
        return LOSS_ALIKE, LOSS_ALIKE if self.measure == LOSS else ALIKE


class Place(NamedTuple):
    """A method's place on the plane, as logarithms; less is better of both."""

    forgotten: Estimate  # loss on old pictures, after / before
    missed: Estimate  # loss on new pictures, after / before, or the samples' Frechet distance

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite([self.forgotten.mean, self.missed.mean]).all())

    @property
    def point(self) -> tuple[float, float]:
        return float(np.exp(self.forgotten.mean)), float(np.exp(self.missed.mean))


def read_study() -> Study:
    """The tables of the study, and those rows of the pilot that are of the same runs after other numbers of steps."""
    scores, losses = _joined("", is_test), _joined("_losses", lambda table: table.data.isin(SIDES))
    floors = read_parts().floors
    steps = sorted(set(losses.step))
    return Study({step: Parts(scores[scores.step == step], losses[losses.step == step], floors) for step in steps})


def read_terms() -> tuple[Parts, int]:
    """Diff-Tuning with either term alone, from the pilot, and after how many steps: the last that all were scored at, in the seeds that all have."""
    scores, losses = (of_runs(read_table(name)) for name in ("pilot", "pilot_losses"))
    scores, losses = (table[table.method.isin(TERMS)] for table in (scores[is_test(scores)], losses))
    last, seeds = shared_runs(scores, "task", RUNS)
    scores, losses = (table[(table.step == last) & table.seed.isin(seeds)] for table in (scores, losses[losses.data.isin(SIDES)]))
    return Parts(scores, losses, read_parts().floors), last


def shared_runs(scores: pandas.DataFrame, of: str, wanted: Iterable[str]) -> tuple[int, set[int]]:
    """The last step that all of `TERMS` were scored at on each of the `wanted` (in the column `of`), and the seeds that all of them have there."""
    needed = set(itertools.product(wanted, TERMS))
    whole = [place for place, rows in scores.groupby(["step", "seed"]) if needed <= set(zip(rows[of], rows.method))]
    last = max(step for step, _ in whole)
    return int(last), {seed for step, seed in whole if step == last}


def place(parts: Parts, view: View, method: str) -> Place:
    """Where a method stands on a plane."""
    tenths = CHAIN[view.part]
    if (guidance := MEASURES[view.measure]) is None:
        missed = ratios(parts, view.task, "target", method, tenths)
    else:
        missed = log_score(parts, view.task, method, guidance)
    return Place(ratios(parts, view.task, "source", method, tenths), missed)


def places(parts: Parts, view: View, methods: Iterable[str] = METHODS) -> dict[str, Place]:
    """The same of several, without those that the tables lack."""
    found = {method: place(parts, view, method) for method in parts.present(methods)}
    return {method: where for method, where in found.items() if where.is_known}


def path(study: Study, view: View, method: str = "plain") -> dict[int, Place]:
    """Where a method stands after each number of steps."""
    found = {step: place(parts, view, method) for step, parts in study.at.items()}
    return {step: where for step, where in found.items() if where.is_known}


def beats(ours: Place, theirs: Place, margins: tuple[float, float]) -> bool:
    """Better on one axis and no worse on the other; what is nearer than the margin is alike."""
    gains = [other.mean - own.mean for own, other in zip(ours, theirs)]
    better = [gain > margin for gain, margin in zip(gains, margins)]
    worse = [gain < -margin for gain, margin in zip(gains, margins)]
    return any(better) and not any(worse)


def front(found: Mapping[str, Place], margins: tuple[float, float]) -> list[str]:
    """The Pareto front: those that no other beats.  There is always one, as each win costs less than it brings."""
    return [name for name, own in found.items() if not any(beats(other, own, margins) for other in found.values())]


def set_name(task: str) -> str:
    """A task with its number of training pictures: "digits (200)"."""
    return f"{task} ({RUNS[task]:,})"


def _joined(suffix: str, wanted: Callable[[pandas.DataFrame], pandas.Series]) -> pandas.DataFrame:
    import pandas

    own, pilot = (of_runs(read_table(name + suffix)) for name in ("baselines", "pilot"))
    key = ["task", "method", "seed", "learning_rate"]
    runs = set(own[key].itertuples(index=False, name=None))
    same = [run in runs for run in pilot[key].itertuples(index=False, name=None)]
    table = pandas.concat([own, pilot[np.array(same, bool) & ~pilot.step.isin(own.step)]], ignore_index=True)
    return table[wanted(table)]
