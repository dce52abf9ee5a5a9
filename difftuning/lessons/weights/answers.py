"""What the runs of lesson 04 answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..parts import ALIKE, GUIDANCES, TENTHS, distance_saved, ratio, score
from ..parts_words import MEANT, kept_in_words, longest_run, samples_in_words, stretch_in_words

if TYPE_CHECKING:
    from ..parts import Parts

SWAPPED = ("better than Diff-Tuning's", "between the two", "about the same as plain fine-tuning's", "worse than plain fine-tuning's")
HEAVIER = ("better", "about the same", "worse")
CURVES = {
    "Diff-Tuning": "With both curves, each in its place,",
    "reconsolidation only": "With the rising curve alone",
    "retention only": "With a bank, and new pictures at all t alike,",
    "weightings swapped": "With the curves swapped",
}
RISING, BANKED = ("reconsolidation only", "Diff-Tuning"), ("retention only", "Diff-Tuning", "weightings swapped")
HEAVY, LIGHT = "Diff-Tuning, weight 1", "Diff-Tuning"
CLOSE = 0.02  # two losses nearer than this are called alike


def swapped_in_words(parts: Parts) -> str:
    """Which of `SWAPPED` the scores say about the swapped curves: the mean over sets and ways of guidance, against plain fine-tuning."""
    swapped, ours = (_saved(parts, method, "plain") for method in ("weightings swapped", "Diff-Tuning"))
    if abs(swapped) < ALIKE:
        return SWAPPED[2]
    return SWAPPED[3] if swapped < 0 else SWAPPED[1] if swapped < ours else SWAPPED[0]


def heavier_in_words(parts: Parts) -> str:
    """Which of `HEAVIER` the scores say about bank weight 1 beside 0.1: the mean over sets and ways of guidance."""
    saved = _saved(parts, HEAVY, LIGHT)
    return HEAVIER[1] if abs(saved) < ALIKE else HEAVIER[0] if saved > 0 else HEAVIER[2]


def losses_in_words(parts: Parts) -> str:
    """What to see in the losses of plain fine-tuning and `CURVES`: who learns the noise end, and where a bank protects."""
    old = [{name: [ratio(parts, task, "source", name, [n]) for n in TENTHS] for name in ("plain", *CURVES)} for task in parts.tasks]
    below = longest_run(
        [all(max(one[name][n] for name in BANKED) < min(line[n] for name, line in one.items() if name not in BANKED) for one in old)
         for n in range(len(TENTHS))]
    )  # fmt: skip
    right = (
        f"the three methods with a bank lie below the two without {stretch_in_words(below)}"
        if below
        else "the lines with a bank and without cross"
    )
    words = f"*Left, new pictures: {_noise_end(parts)}. Right, old pictures: {right}.*"
    if least_kept_last(parts, "weightings swapped"):
        words += " With the curves swapped many bank pictures are trained in the last tenth, and yet most is lost there; these runs cannot say why."
    return words


def heavier_along_the_chain(parts: Parts) -> str:
    """What bank weight 1 does to the old pictures, and where along the chain to the loss on new ones, beside 0.1."""
    losses = [[[ratio(parts, task, "target", name, [n]) for name in (HEAVY, LIGHT)] for n in TENTHS] for task in parts.tasks]
    lower, higher = (
        longest_run([all(sign * np.log(one[n][0] / one[n][1]) > CLOSE for one in losses) for n in range(len(TENTHS))]) for sign in (-1, 1)
    )
    found = [f"{word} {stretch_in_words(where)}" for word, where in (("lower", lower), ("higher", higher)) if where]
    sets = " of both sets" if len(parts.tasks) > 1 else ""
    loss = f"The loss on new pictures{sets} is {' and '.join(found)}" if found else f"The loss on new pictures{sets} hardly changes"
    return f"*With weight 1, light blue, {kept_in_words(parts, HEAVY, LIGHT)} than with weight 0.1.* {loss}."


def picked_or_multiplied(parts: Parts) -> str:
    """Whether multiplying the loss gives other samples than picking t."""
    return f"*Beside picking (blue), the samples of multiplying (purple) are {samples_in_words(parts, 'weighted, not sampled', LIGHT)}.*"


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: one bold sentence, and a line for each of `CURVES`, beside plain fine-tuning."""
    without_rise, swapped = (samples_in_words(parts, method) for method in ("retention only", "weightings swapped"))
    if worst_of_all(parts, "weightings swapped"):
        swapped = "the worst of all"
    bold = (
        f"Beside plain fine-tuning: drop the bank, and {kept_in_words(parts, 'reconsolidation only')}; drop the rising curve, and the new samples "
        f"are {without_rise}; swap the two, and they are {swapped}."
    )
    lines = (
        f"- {words} the new samples are {samples_in_words(parts, method)}, and {_kept(parts, method)}." for method, words in CURVES.items()
    )
    return f"**{bold}**\n\nMethod by method:\n\n" + "\n".join(lines) + f"\n\n{MEANT}"


def worst_of_all(parts: Parts, method: str) -> bool:
    """Are its samples the worst among plain fine-tuning's and those of `CURVES`, in every set and under both guidances?"""
    others = [name for name in ("plain", *CURVES) if name != method]
    settings = [(task, guidance) for task in parts.tasks for guidance in GUIDANCES]
    return all(
        score(parts, task, method, guidance).mean > max(score(parts, task, other, guidance).mean for other in others)
        for task, guidance in settings
    )


def least_kept_last(parts: Parts, method: str) -> bool:
    """Is the loss on old pictures in the last tenth highest after this method, among plain fine-tuning and `CURVES`, in every set?"""
    return all(max(last, key=last.__getitem__) == method for last in _last_tenth(parts, "source"))


def _noise_end(parts: Parts) -> str:
    """Which methods have learned the last tenth of the chain least and most."""
    last = _last_tenth(parts, "target")
    least = {max(one, key=one.__getitem__) for one in last}
    most = all(set(sorted(one, key=one.__getitem__)[:2]) == set(RISING) for one in last)
    known = [
        *(["the swapped method has learned least"] if least == {"weightings swapped"} else []),
        *(["the two with a rising curve have learned most"] if most else []),
    ]
    return f"in the last tenth {' and '.join(known)}" if known else "no method stands out in the last tenth"


def _last_tenth(parts: Parts, data: str) -> list[dict[str, float]]:
    return [{name: ratio(parts, task, data, name, [TENTHS[-1]]) for name in ("plain", *CURVES)} for task in parts.tasks]


def _kept(parts: Parts, method: str) -> str:
    found = kept_in_words(parts, method)
    last = ", on average, though in the last tenth least of all" if found.startswith("more") and least_kept_last(parts, method) else ""
    return found + last


def _saved(parts: Parts, method: str, other: str) -> float:
    """log(other's distance / the method's), the mean over the sets and ways of guidance that were measured."""
    gains = [distance_saved(parts, task, method, other, guidance) for task in parts.tasks for guidance in GUIDANCES]
    return float(np.mean([gain.mean for gain in gains if gain.seeds]))
