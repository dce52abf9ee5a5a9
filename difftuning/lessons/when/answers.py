"""What lesson 09's runs answer about the number of pictures and of steps, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

from ...studies.gains import estimate, trend
from ..numerals import listed, out_of
from ..parts import ALIKE, BETTER, SAME, STEPS, UNCLEAR, WORSE, in_a_word
from .counting import WAYS, paper_cells
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
STRONG = 0.7  # a rank correlation from which on the paper's gain is said to rise or fall
FEW_COPIES = 0.01  # of the samples: fewer are "hardly any"


def most_in_words(gains: pandas.DataFrame, measure: str = GUIDED) -> str:
    """With how many pictures Diff-Tuning helps most: one of `WHERE`."""
    places = {_place(gains, task, measure) for task in TASKS}
    return places.pop() if len(places) == 1 else WHERE[3]


def size_answer(gains: pandas.DataFrame) -> str:
    """Markdown: one bold sentence, with how many pictures Diff-Tuning helps most; below, by how much, and whether the two measures agree."""
    first, second = TASKS
    samples = (
        f"the samples of {first} {_helped(gains, first, GUIDED)} and those of {second} {_helped(gains, second, GUIDED)} (at guidance 1.5)"
    )
    of_each = [_helped(gains, task, NEW) for task in TASKS]
    where = f"{of_each[0]} on {first} and {of_each[1]} on {second}" if len(set(of_each)) > 1 else f"{of_each[0]} on both"
    loss = f"the loss on new pictures it helps {where}"
    helped = ([set(_best(gains, task, measure)) for measure in (GUIDED, NEW)] for task in TASKS)
    agree = all(samples & losses or samples == losses for samples, losses in helped)
    same = f"Samples and loss {'agree' if agree else 'do not agree'} on where that is."
    return f"**After {STEPS} steps Diff-Tuning helps {samples}; {loss}.** {same} {_how_much(gains)}".rstrip()


def _how_much(gains: pandas.DataFrame) -> str:
    found = {task: by_pictures(gains, task, GUIDED) for task in TASKS}
    helped = [
        (task, max((found[task][pictures] for pictures in best), key=lambda one: one.mean))
        for task in found
        if (best := _best(gains, task, GUIDED))
    ]
    if not helped:
        return ""
    return f"Where it helps the samples most, the distance is {listed(f'{lower(best):.0f} % lower ({task})' for task, best in helped)}."


def _best(gains: pandas.DataFrame, task: str, measure: str) -> list[int]:
    """The numbers of pictures with the largest gain, or so near to it that the measure calls it the same; none where nothing gains."""
    found = by_pictures(gains, task, measure)
    helped = {pictures: one.mean for pictures, one in found.items() if called(one, measure) == BETTER}
    return [pictures for pictures, mean in helped.items() if mean > max(helped.values()) - MEASURES[measure]]


def _place(gains: pandas.DataFrame, task: str, measure: str) -> str:
    found, best = by_pictures(gains, task, measure), _best(gains, task, measure)
    if not best:
        return WHERE[4]
    most = max(best, key=lambda pictures: found[pictures].mean)
    return WHERE[0] if most == min(found) else WHERE[2] if most == max(found) else WHERE[1]


def _helped(gains: pandas.DataFrame, task: str, measure: str) -> str:
    best, tried = _best(gains, task, measure), by_pictures(gains, task, measure)
    if not best:
        return "with none of the numbers tried"
    if sum(called(one, measure) == BETTER for one in tried.values()) == 1:
        return f"clearly with {best[0]:,} pictures alone"
    return f"about as much with any number from {min(tried)} on" if len(best) == len(tried) > 1 else f"most with {listed(best)} pictures"


def copies_in_words(copied: Mapping[tuple[str, int, int], tuple[float, float]]) -> str:
    """How many samples at guidance 1.5 repeat a training picture, in the sets where any number worth telling do."""
    told = {
        (
            task,
            pictures,
        ): f"{100 * plain:.0f} % under plain fine-tuning and {100 * ours:.0f} % under Diff-Tuning ({task}, {pictures:,} pictures)"
        for (task, pictures, _), (plain, ours) in copied.items()
        if max(plain, ours) >= FEW_COPIES
    }
    if not told:
        return "Copies play no part in it: at guidance 1.5 hardly any samples repeat a training picture, in every set and under both."
    return (
        "Mind the copies, for a distance does not punish them. Of the samples at guidance 1.5, these repeat a training picture: "
        f"{listed(told.values())}. In all other sets hardly any do."
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
    """ "rises", "falls" or "no trend": the gain with the number of training pictures, by rank correlation, seed by seed."""
    return trend(gains[(gains.task == task) & (gains.measure == measure) & (gains.steps == STEPS)], "pictures", "gain").verdict


def beside_the_paper(gains: pandas.DataFrame, lost: Sequence[Lost] = ()) -> pandas.DataFrame:
    """What the paper says, and what our sets say; the mean also without the sets that have a `lost` run."""
    import pandas

    words = [called(gain(gains, cell), GUIDED) for cell in paper_cells(gains)]
    mean, steady = mean_over(gains, paper_cells(gains)), [cell for cell in paper_cells(gains) if not lost_of(gains, cell, lost)]
    told = {BETTER: "clearly better", SAME: UNCLEAR, WORSE: "clearly worse"}[in_a_word([mean], ALIKE)]
    rho, known = size_correlation()
    of_paper = "rises" if rho >= STRONG else "falls" if rho <= -STRONG else "no trend"
    rows = {
        "better on": (out_of(len(TABLE), len(TABLE), "tasks"), f"{out_of(words.count(BETTER), len(words), 'sets')} of two tasks"),
        "on average": (f"better by {CLAIM} % (~{MEAN.plain} to {MEAN.ours})", f"{told}: lower by {mean.percent}"
                       + (f"; without the set that has an unstable run, {mean_over(gains, steady).percent}" if len(steady) < len(words) else "")),
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
