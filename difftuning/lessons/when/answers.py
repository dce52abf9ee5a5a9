"""What lesson 09's runs answer about the number of pictures and of steps, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

from ...studies.gains import estimate, trend
from ..numerals import listed, numeral, out_of
from ..parts import ALIKE, BETTER, SAME, STEPS, WORSE, in_a_word
from .counting import WAYS, paper_cells, sets_with_copies
from .figures import LEAST_POINTS
from .paper import CLAIM, MEAN, TABLE, size_correlation
from .runs import (
    CELL,
    GUIDED,
    MEASURES,
    NEW,
    OLD,
    TASKS,
    Cell,
    Lost,
    by_pictures,
    by_steps,
    called,
    cells,
    gain,
    lost_of,
    lower,
    mean_over,
    sets,
)

if TYPE_CHECKING:
    import pandas

WHERE = ("with the fewest", "with a number in between", "with the most", "that depends on the task", "with none of them")
TRENDS = {BETTER: "grows", SAME: "does not clearly change", WORSE: "shrinks"}
STRONG = 0.7  # a rank correlation from which on a gain is said to rise or fall
NO_TREND, UNTOLD, NOWHERE = "no trend", "shows no clear trend", "with none of the numbers tried"


def most_in_words(gains: pandas.DataFrame, measure: str = GUIDED) -> str:
    """With how many pictures Diff-Tuning helps most, by the means: one of `WHERE`."""
    places = {_place(gains, task, measure) for task in TASKS}
    return places.pop() if len(places) == 1 else WHERE[3]


def size_answer(gains: pandas.DataFrame) -> str:
    """Markdown: in bold how the gain in guided samples goes with the number of pictures, where it is clear, and where the loss on new pictures gains most."""
    trends = {task: size_trend(gains, task) for task in TASKS}
    trends = _by_task({task: UNTOLD if word == NO_TREND else word for task, word in trends.items()})
    found = {(task, pictures): one for task in TASKS for pictures, one in by_pictures(gains, task, GUIDED).items()}
    clear = [
        f"{pictures:,} pictures of {task} ({lower(one):.0f} % lower)"
        for (task, pictures), one in found.items()
        if called(one, GUIDED) == BETTER
    ]
    sets = f"with {listed(clear)}{' alone' * (len(clear) < 2)}" if clear else NOWHERE
    return (
        f"**After {STEPS} steps the gain in samples at guidance 1.5 {trends} as the number of pictures grows. "
        f"Set by set it is clear {'for all' if len(clear) == len(found) else sets}. "
        f"The loss on new pictures gains {_by_task({task: _helped(gains, task, NEW) for task in TASKS})}.**"
    )


def _by_task(words: Mapping[str, str]) -> str:
    """ "rises on footwear and falls on digits", "rises on both tasks", "shows no clear trend on either task"."""
    if len(set(words.values())) > 1:
        return listed(f"{word} on {task}" for task, word in words.items())
    (word,) = set(words.values())
    return f"{word} on {'either task' if word in (UNTOLD, NOWHERE) else 'both tasks'}"


def _best(gains: pandas.DataFrame, task: str, measure: str) -> list[int]:
    """The numbers of pictures with the largest gain, or so near to it that the measure calls it the same; none where nothing gains."""
    found = by_pictures(gains, task, measure)
    helped = {pictures: one.mean for pictures, one in found.items() if called(one, measure) == BETTER}
    return [pictures for pictures, mean in helped.items() if mean > max(helped.values()) - MEASURES[measure]]


def _place(gains: pandas.DataFrame, task: str, measure: str) -> str:
    means = {pictures: one.mean for pictures, one in by_pictures(gains, task, measure).items()}
    most = max(means, key=means.__getitem__)
    if means[most] <= MEASURES[measure]:
        return WHERE[4]
    return WHERE[0] if most == min(means) else WHERE[2] if most == max(means) else WHERE[1]


def _helped(gains: pandas.DataFrame, task: str, measure: str) -> str:
    best, tried = _best(gains, task, measure), by_pictures(gains, task, measure)
    if not best:
        return NOWHERE
    if sum(called(one, measure) == BETTER for one in tried.values()) == 1:
        return f"clearly only with {best[0]:,} pictures"
    return (
        f"about as much with any number from {min(tried)} upwards" if len(best) == len(tried) > 1 else f"most with {listed(best)} pictures"
    )


def copies_in_words(copied: Mapping[tuple[str, int, int], tuple[float, float]]) -> str:
    """How many samples at guidance 1.5 repeat a training picture, in the sets where any number worth telling do."""
    told = [
        f"{100 * plain:.0f} % under plain fine-tuning and {100 * ours:.0f} % under Diff-Tuning ({name})"
        for name, (plain, ours) in sets_with_copies(copied).items()
    ]
    if not told:
        return "Copies play no part in it: at guidance 1.5 hardly any samples repeat a training picture, in every set and under both."
    return (
        "Mind the copies, for a distance does not punish them. Of the samples at guidance 1.5, these repeat a training picture: "
        f"{'; '.join(told)}. In all other sets hardly any do."
    )


def steps_in_words(gains: pandas.DataFrame) -> str:
    """Markdown, one bold sentence on old pictures and samples: does the gain grow or shrink from the first step count to the last?

    It is asked of the sets that have several, seed by seed.  Below, the gain in guided samples on average over these sets.
    """
    counts, means = [], ""
    for measure in (OLD, GUIDED):
        followed = {one: list(by_steps(gains, *one, measure)) for one in sets(gains, measure)}
        growths = [_growth(gains, *one, measure, steps) for one, steps in followed.items() if len(steps) >= LEAST_POINTS]
        words = [in_a_word([growth], MEASURES[measure]) for growth in growths]
        if words:
            most = max(TRENDS, key=words.count)
            counts.append(f"the gain in {measure} {TRENDS[most]} on {out_of(words.count(most), len(words), 'sets')}")
            several = [one for one, steps in followed.items() if len(steps) >= LEAST_POINTS]
            means = _mean_by_steps(gains, several) if measure == GUIDED else ""
    return f"**As training goes on, {'; '.join(counts)}.**{means}" if counts else ""


def _mean_by_steps(gains: pandas.DataFrame, of: Sequence[tuple[str, int]]) -> str:
    """The guided distance on average over these sets, after each number of steps that all of them have."""
    held = set(cells(gains, GUIDED))
    by_steps = {steps: [Cell(*one, steps, GUIDED) for one in of] for steps in sorted({cell.steps for cell in held})}
    found = {steps: mean_over(gains, mine).percent for steps, mine in by_steps.items() if held.issuperset(mine)}
    told = listed(f"{percent} after {steps:,} steps" for steps, percent in found.items())
    return (
        f" On average over these sets the distance of samples at guidance 1.5 is lower by {told} (in brackets the 95 % interval)."
        if found
        else ""
    )


def _growth(gains: pandas.DataFrame, task: str, pictures: int, measure: str, steps: list[int]):
    """How much larger the gain is after the most steps than after the fewest, over the seeds that have both."""
    rows = gains.set_index([*CELL, "seed"]).gain.sort_index()
    first, last = (rows[task, pictures, step, measure] for step in (steps[0], steps[-1]))
    return estimate((last - first).dropna().to_numpy())


def size_trend(gains: pandas.DataFrame, task: str, measure: str = GUIDED) -> str:
    """ "rises", "falls" or "no trend": the gain with the number of training pictures, by rank correlation, whose interval over seeds must leave out 0."""
    found = trend(gains[(gains.task == task) & (gains.measure == measure) & (gains.steps == STEPS)], "pictures", "gain")
    return found.verdict if found.verdict in ("rises", "falls") and abs(found.mean) >= STRONG else NO_TREND


def beside_the_paper(gains: pandas.DataFrame, lost: Sequence[Lost] = ()) -> pandas.DataFrame:
    """What the paper says, and what our sets say; the mean also without the sets that have a `lost` run."""
    import pandas

    found = [gain(gains, cell) for cell in paper_cells(gains)]
    better, lower_ones = sum(called(one, GUIDED) == BETTER for one in found), sum(one.mean > 0 for one in found)
    mean, steady = mean_over(gains, paper_cells(gains)), [cell for cell in paper_cells(gains) if not lost_of(gains, cell, lost)]
    clearly = ", not clearly" if in_a_word([mean], ALIKE) == SAME else ""
    rho, known = size_correlation()
    of_paper = "rises" if rho >= STRONG else "falls" if rho <= -STRONG else NO_TREND
    rows = {
        "lower on": (f"{out_of(len(TABLE), len(TABLE), 'tasks')} (no intervals)", f"{out_of(lower_ones, len(found), 'sets')} of two tasks, clearly on {numeral(better)}"),
        "on average": (f"better by {CLAIM} % (~{MEAN.plain} to {MEAN.ours})", f"lower by {mean.percent}{clearly}"
                       + (f"; without the set that has an unstable run, {mean_over(gains, steady).percent}" if len(steady) < len(found) else "")),
        "with more training pictures the gain": (f"{of_paper} ({known} tasks)", ", ".join(f"{size_trend(gains, task)} ({task})" for task in TASKS)),
        "old pictures": ("not known here", _everywhere(gains, OLD)),
    }  # fmt: skip
    return pandas.DataFrame(rows, index=["the paper, DiT-XL/2", "here, tiny DiT"]).T


def _everywhere(gains: pandas.DataFrame, measure: str) -> str:
    words = [called(gain(gains, cell), measure) for cell in paper_cells(gains, measure)]
    return f"{BETTER} in {out_of(words.count(BETTER), len(words), 'sets')}"


def when_in_words(table: pandas.DataFrame, verdict: str) -> str:
    """The lesson's answer in Markdown: one bold sentence with the counts of `counting.counts`, and whether one could have known."""
    said = {way: out_of(int(row.better), int(row.cells), "sets" if way in WAYS[:2] else "cells") for way, row in table.iterrows()}
    return (
        f"**Diff-Tuning's samples are clearly better on {said[WAYS[0]]} under the paper's protocol, and on {said[WAYS[1]]} with each method at its own best; "
        f"its loss on new pictures is lower in {said[WAYS[4]]} and that on old ones in {said[WAYS[5]]}; {verdict}.**"
    )
