"""Diff-Tuning's settings one at a time (study "sweeps"): what each does to new samples and to old pictures, and which of them is robust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable, Mapping, NamedTuple

import numpy as np

from ...studies.gains import Estimate
from ..parts import ALIKE, GUIDANCES, SAME, Parts, distance_saved, in_a_word, loss_saved
from .runs import CELL, GUIDED, OLD, OURS, PLAIN, UNGUIDED, listed

if TYPE_CHECKING:
    import pandas


class Knob(NamedTuple):
    """A setting: line -> value -> the method that has it; the default value is Diff-Tuning itself."""

    lines: Mapping[str, Mapping[float, str]]
    default: float
    logarithmic: bool = True

    @property
    def others(self) -> list[tuple[str, str]]:
        """(value as a word, method) of all values but the default, which a second family has, too."""
        return [
            (f"{value:g}{', ' + line if line else ''}", method)
            for line, values in self.lines.items()
            for value, method in values.items()
            if value != self.default
        ]


KNOBS = {
    "tau": Knob(
        {
            "official": {0: "tau 0, official", 0.5: "tau 0.5, official", 1: OURS, 2: "tau 2, official"},
            "paper": {0.5: "tau 0.5, paper", 1: "tau 1, paper", 2: "tau 2, paper"},
        },
        default=1,
        logarithmic=False,
    ),
    "bank size": Knob({"": {30: "bank of 30", 100: "bank of 100", 300: "bank of 300", 1000: OURS}}, default=1000),
    "bank share": Knob({"": {0.1: "bank share 0.1", 0.2: OURS, 0.4: "bank share 0.4"}}, default=0.2),
    "bank weight": Knob(
        {"": {0.03: "Diff-Tuning, weight 0.03", 0.1: OURS, 0.3: "Diff-Tuning, weight 0.3", 1: "Diff-Tuning, weight 1"}}, default=0.1
    ),
}
ROBUST = "No difference at any value"
NEW_ALONE = "The new samples stay about the same, the old pictures do not"
NOT_ROBUST = "The new samples change at some value"
YARDSTICK = "plain or Diff-Tuning"
CHANCE = "another seed"
NOT_RUN = "–"


def word(gains: Iterable[Estimate]) -> str:
    """`in_a_word` over what was run; a dash where nothing was."""
    found = [gain for gain in gains if gain.seeds]
    return in_a_word(found, ALIKE) if found else NOT_RUN


def new_word(parts: Parts, method: str, other: str) -> str:
    """Are a method's samples better than another's, over the sets and ways of guidance in which both were run?"""
    return word(distance_saved(parts, task, method, other, guidance) for task in parts.tasks for guidance in GUIDANCES)


def old_word(parts: Parts, method: str, other: str) -> str:
    """Is the loss on old pictures lower than under another method?"""
    return word(loss_saved(parts, task, method, other) for task in parts.tasks)


def compared(parts: Parts, knob: str) -> dict[str, tuple[str, str]]:
    """Value -> (new samples, old pictures) beside the default, for the values that were run."""
    return {value: (new_word(parts, method, OURS), old_word(parts, method, OURS))
            for value, method in KNOBS[knob].others if parts.present([method])}  # fmt: skip


def robustness(words: Mapping[str, tuple[str, str]]) -> str:
    """`ROBUST`, `NEW_ALONE` or `NOT_ROBUST`, of a knob's `compared` values."""
    if all(new == SAME for new, _ in words.values()):
        return ROBUST if all(old == SAME for _, old in words.values()) else NEW_ALONE
    return NOT_ROBUST


def knobs_in_words(parts: Parts) -> str:
    """Markdown: a line for each knob that was run, its values grouped by what they do; below, which knobs are robust."""
    found = {name: words for name in KNOBS if (words := compared(parts, name))}
    lines, kinds = [], {ROBUST: [], NEW_ALONE: [], NOT_ROBUST: []}
    for name, words in found.items():
        groups: dict[tuple[str, str], list[str]] = {}
        for value, pair in words.items():
            groups.setdefault(pair, []).append(value)
        told = (f"**{' / '.join(values)}**: {_told(*pair)}" for pair, values in groups.items())
        lines.append(f"- *{name}* (default {KNOBS[name].default:g}): {'; '.join(told)}.")
        kinds[robustness(words)].append(name)
    last = " ".join(f"{kind}: {listed(names)}." for kind, names in kinds.items() if names)
    return "\n".join(lines) + f"\n\n{last}"


def _told(new: str, old: str) -> str:
    if new == old == SAME:
        return "no difference"
    return f"samples {new}, old pictures {old}"


def was_run(parts: Parts, knob: str) -> bool:
    """Do the tables hold a value beside the default?"""
    return bool(parts.present(method for _, method in KNOBS[knob].others))


def spread(parts: Parts, methods: Iterable[str], value: Callable[[str, str], float]) -> float:
    """The largest of some methods' numbers divided by the smallest, its geometric mean over the sets; `value`: (task, method) -> a logarithm."""
    methods = parts.present(methods)
    found = [[number for method in methods if np.isfinite(number := value(task, method))] for task in parts.tasks]
    return float(np.exp(np.mean([np.ptp(numbers) for numbers in found if len(numbers) > 1])))


def spreads(parts: Parts, gains: pandas.DataFrame) -> pandas.DataFrame:
    """How much each knob moves, as largest / smallest; first the step from plain fine-tuning to Diff-Tuning, and what another seed does to it.

    `gains`: of `runs.read_gains`; the row of seeds is there only if some cell has several.
    """
    import pandas

    columns: dict[str, Callable[[str, str], float]] = {
        f"samples, guidance {guidance}": (lambda task, method, way=guidance: -distance_saved(parts, task, method, PLAIN, way).mean)
        for guidance in reversed(GUIDANCES)
    }
    columns["loss on old pictures"] = lambda task, method: -loss_saved(parts, task, method, PLAIN).mean
    rows = {YARDSTICK: (PLAIN, OURS)} | {
        name: [method for values in knob.lines.values() for method in values.values()]
        for name, knob in KNOBS.items()
        if was_run(parts, name)
    }
    found = {row: {name: spread(parts, methods, value) for name, value in columns.items()} for row, methods in rows.items()}
    between_seeds = {name: seed_spread(gains, measure) for name, measure in zip(columns, (GUIDED, UNGUIDED, OLD))}
    if not any(map(np.isnan, between_seeds.values())):
        found = {YARDSTICK: found.pop(YARDSTICK), CHANCE: between_seeds} | found
    return pandas.DataFrame(found).T


def seed_spread(gains: pandas.DataFrame, measure: str) -> float:
    """The largest plain / Diff-Tuning over the seeds of a cell divided by the smallest: the geometric mean over the cells with several; nan without any."""
    mine = gains[gains.measure == measure].groupby(CELL).gain
    return float(np.exp(mine.agg(np.ptp)[mine.size() > 1].mean()))


def most_moving(parts: Parts, gains: pandas.DataFrame) -> str:
    """The knob that moves the samples at guidance 1.5 most."""
    return spreads(parts, gains).drop([YARDSTICK, CHANCE], errors="ignore").iloc[:, 0].idxmax()
