"""Which of Diff-Tuning's settings (study "sweeps") is robust, and how much each moves the samples and the old pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable

import numpy as np

from ...studies.gains import LEAST_SEEDS
from ..knobs import KNOBS, compared, sets_run
from ..numerals import listed, numeral
from ..parts import ALIKE, GUIDANCES, NOT_CLEAR, NOT_MEASURED, SAME, UNCLEAR, Parts, distance_saved, loss_saved, mean_saved, seeds
from .runs import CELL, GUIDED, OLD, OURS, PLAIN, UNGUIDED

if TYPE_CHECKING:
    import pandas

YARDSTICK = "plain or Diff-Tuning"
CHANCE = "other seeds"


def knobs_in_words(parts: Parts) -> str:
    """Markdown: a line for each knob that was run, its values grouped by what they do; and the runs that diverged."""
    lines = []
    for name, words in ((name, words) for name in KNOBS if (words := compared(parts, name))):
        groups: dict[tuple[str, str], list[str]] = {}
        for value, pair in words.items():
            groups.setdefault(pair, []).append(value)
        told = (f"**{listed(values)}**: {_told(*pair)}" for pair, values in groups.items())
        lines.append(f"- *{name}* (default {KNOBS[name].default:g}): {'; '.join(told)}.")
    return "\n".join(lines + ["", *lost]) if (lost := _diverged(parts)) else "\n".join(lines)


def _diverged(parts: Parts) -> list[str]:
    """A sentence for each value of which a run diverged."""
    told = []
    for knob, (value, method) in ((name, other) for name in KNOBS for other in KNOBS[name].others):
        lost = np.isinf(parts.scores[parts.scores.method == method].groupby(["task", "seed"]).fid.max())
        if count := int(lost.sum()):
            left = mean_saved(parts, method, OURS).seeds
            rest = f"what is said of it rests on {numeral(left)} seed{'s' * (left != 1)}{', without an interval' * (left < LEAST_SEEDS)}"
            told.append(
                f"{numeral(count).capitalize()} of {numeral(len(lost))} runs with {knob} {value} diverged; {rest if left else 'none is left'}."
            )
    return told


def _told(new: str, old: str) -> str:
    if new == old == SAME:
        return UNCLEAR
    new, old = ({SAME: NOT_CLEAR, NOT_MEASURED: "not measured"}.get(word, word) for word in (new, old))
    return f"samples {new}, old pictures {old}"


def spread(parts: Parts, methods: Iterable[str], value: Callable[[str, str], float]) -> float:
    """The largest of some methods' numbers divided by the smallest, its geometric mean over the sets; `value`: (task, method) -> a logarithm."""
    methods = parts.present(methods)
    found = [[number for method in methods if np.isfinite(number := value(task, method))] for task in parts.tasks]
    return float(np.exp(np.mean([np.ptp(numbers) for numbers in found if len(numbers) > 1])))


def spreads(parts: Parts, gains: pandas.DataFrame) -> pandas.DataFrame:
    """How much each knob moves, as largest / smallest; first the step from plain fine-tuning to Diff-Tuning, and what other seeds do to it.

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
        if sets_run(parts, name)
    }
    found = {row: {name: spread(parts, methods, value) for name, value in columns.items()} for row, methods in rows.items()}
    averaged = seeds(parts)[0]
    between_seeds = {name: seed_spread(gains, measure, averaged) for name, measure in zip(columns, (GUIDED, UNGUIDED, OLD))}
    if not any(map(np.isnan, between_seeds.values())):
        found = {YARDSTICK: found.pop(YARDSTICK), CHANCE: between_seeds} | found
    return pandas.DataFrame(found).T


def seed_spread(gains: pandas.DataFrame, measure: str, averaged: int) -> float:
    """The largest plain / Diff-Tuning over the seeds of a cell divided by the smallest: the geometric mean over the cells with several; nan without any.

    `averaged`: of means over so many seeds, whose logarithms vary less, by the root of that number.
    """
    mine = gains[gains.measure == measure].groupby(CELL).gain
    return float(np.exp(mine.agg(np.ptp)[mine.size() > 1].mean() / averaged**0.5))


def beyond_seeds(table: pandas.DataFrame) -> str:
    """In words, which knobs move each number more than other seeds do, and by more than the margin; `table`: of `spreads`; "" where no seeds are known."""
    if CHANCE not in table.index:
        return ""
    knobs = table.drop([YARDSTICK, CHANCE])
    found = {name: list(knobs.index[knobs[name] > max(table.loc[CHANCE, name], 1 + ALIKE)]) for name in table}
    told = (f"for the {name}, {listed(names)}" for name, names in found.items())
    return f"Settings that matter more than the seed does, and by {100 * ALIKE:.0f} % at least: {'; '.join(told)}."


def most_moving(parts: Parts, gains: pandas.DataFrame) -> str:
    """The knob that moves the samples at guidance 1.5 most."""
    return spreads(parts, gains).drop([YARDSTICK, CHANCE], errors="ignore").iloc[:, 0].idxmax()
