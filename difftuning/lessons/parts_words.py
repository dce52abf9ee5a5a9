"""Words of lessons 04 and 05 for what the study "parts" shows: they hold for one set or both, and for any number of seeds."""

from __future__ import annotations

import itertools
from typing import Callable, Mapping, Sequence

from ..studies.gains import LEAST_SEEDS, Estimate, Gain
from .numerals import listed
from .parts import (
    ALIKE,
    BETTER,
    GUIDANCES,
    KEPT,
    MIXED,
    NOT_CLEAR,
    NOT_MEASURED,
    SAME,
    UNCLEAR,
    WORSE,
    Parts,
    distance_saved,
    in_a_table,
    in_a_word,
    mean_saved,
    new_samples,
    old_pictures,
    seeds,
)

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "last")  # tenths of the chain
SAMPLES = {  # "the new samples are ..."
    BETTER: "better", SAME: NOT_CLEAR, WORSE: "worse", MIXED: "better in some comparisons and worse in others",
    NOT_MEASURED: "not measured",
}  # fmt: skip
OLD = {
    BETTER: "more of the old is kept", SAME: "no more of the old is kept", WORSE: "less of the old is kept",
    MIXED: "more of the old is kept on one set and less on the other", NOT_MEASURED: "the old pictures were not measured",
}  # fmt: skip
MEANT = f"(A bank *keeps more of the old* if it avoids {100 * KEPT:.0f} % of the rise at least, on average.)"


def samples_in_words(parts: Parts, method: str, other: str = "plain") -> str:
    """The new samples of a method "are ..." compared with another's, on average over sets and ways of guidance, and by how much."""
    told, gain = samples_at_large(parts, method, other), mean_saved(parts, method, other)
    known = told in (BETTER, WORSE) or gain.has_interval
    return f"{told} (distance {distance_change(gain)} on average)" if known else told


def distance_change(gain: Estimate) -> str:
    """Of log(other's distance / a method's): "−22 %", with three seeds "−22 % [−32 to +10]"; a dash where nothing was measured."""
    if not gain.seeds:
        return NOT_MEASURED
    change, *ends = (f"{-100 * share:+z.0f}".replace("-", "−") for share in (Gain(*gain).lower, *reversed(Gain(*gain).ends)))
    return f"{change} %" + (f" [{' to '.join(ends)}]" if gain.has_interval else "")


def samples_at_large(parts: Parts, method: str, other: str = "plain") -> str:
    """The same without a number."""
    return SAMPLES[new_samples(parts, method, other)]


def kept_in_words(parts: Parts, method: str, other: str = "plain") -> str:
    """How much of the old a method keeps, compared with another."""
    return OLD[old_pictures(parts, method, other)]


def where_sets_differ(parts: Parts, words: Callable[[Parts], str]) -> str:
    """The sets' own answers in brackets, where they are not all the same; "" elsewhere."""
    found = {task: words(of_set(parts, task)) for task in parts.tasks}
    told = "; ".join(f"{task}: {in_a_table(word)}" for task, word in found.items())
    return f" ({told}.)" if len(set(found.values())) > 1 else ""


def of_set(parts: Parts, task: str) -> Parts:
    """One set alone."""
    return Parts(*(table[table.task == task] for table in (parts.scores, parts.losses)), parts.floors)


def compared_with(parts: Parts, methods: Sequence[str], other: str, names: Mapping[str, str] = {}) -> str:
    """Markdown, a table: for each method, set and guidance whether its samples are better or worse than another's, and by how much; and their mean.

    `names`: what a method is called, where not as in the tables.
    """
    cells = list(itertools.product(parts.tasks, GUIDANCES))
    head = f"new samples, compared with: {names.get(other, other)}"
    lines = [
        f"| {head} | " + " | ".join(f"{task}, guidance {guidance}" for task, guidance in cells) + " | change of the distance, on average |",
        "|---" * (len(cells) + 2) + "|",
    ]
    for method in parts.present(methods):
        shown = [_one_cell(distance_saved(parts, task, method, other, guidance)) for task, guidance in cells]
        shown.append(distance_change(mean_saved(parts, method, other)))
        lines.append(f"| {names.get(method, method)} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _one_cell(gain: Estimate) -> str:
    """ "better, 23 %", "no clear difference", or a dash where nothing was measured."""
    if not gain.seeds:
        return NOT_MEASURED
    word = in_a_word([gain], ALIKE)
    return UNCLEAR if word == SAME else f"{word}, {100 * abs(Gain(*gain).lower):.0f} %"


def margin_in_words(parts: Parts) -> str:
    """What counts as a difference between samples: said once in a lesson."""
    if seeds(parts)[1] < LEAST_SEEDS:
        return f"(Less than {100 * ALIKE:.0f} % is {UNCLEAR}.)"
    return (
        f"(A difference below {100 * ALIKE:.0f} %, or whose 95 % interval holds 0, is {UNCLEAR}; with so few runs even a large one may be chance. "
        "In square brackets is the interval of the mean.)"
    )


def longest_run(holds: Sequence[bool]) -> list[int]:
    """The longest stretch of tenths, numbered from 1, at which something holds; the first of equally long ones."""
    runs = [[place for place, _ in run] for held, run in itertools.groupby(enumerate(holds, 1), key=lambda entry: entry[1]) if held]
    return max(runs, key=len, default=[])


def tenths_in_words(tenths: Sequence[int]) -> str:
    """Whichever they are: "tenths 1 to 4 and 10", "tenth 7", "no tenth"."""
    runs: list[list[int]] = []
    for tenth in tenths:
        if runs and runs[-1][-1] == tenth - 1:
            runs[-1].append(tenth)
        else:
            runs.append([tenth])
    told = [word for run in runs for word in (map(str, run) if len(run) < 3 else [f"{run[0]} to {run[-1]}"])]
    if not told:
        return "no tenth"
    return f"tenth{'s' if len(tenths) > 1 else ''} {listed(told)}"


def stretch_in_words(tenths: Sequence[int]) -> str:
    """ "from the first to the eighth tenth", "in the last tenth", "all along the chain", "nowhere"."""
    if len(tenths) == len(ORDINALS):
        return "all along the chain"
    if len(tenths) < 2:
        return f"in the {ORDINALS[tenths[0] - 1]} tenth" if tenths else "nowhere"
    if len(tenths) == 2:
        return "in the last two tenths" if tenths[-1] == len(ORDINALS) else f"in {tenths_in_words(tenths)}"
    return f"from the {ORDINALS[tenths[0] - 1]} to the {ORDINALS[tenths[-1] - 1]} tenth"
