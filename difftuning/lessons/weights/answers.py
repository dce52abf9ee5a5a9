"""What the runs of lesson 04 answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..parts import ALIKE, GUIDANCES, KEPT, distance_saved, new_samples, old_pictures, ratio, score

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
NEW = {
    "better": "the new samples get better", "partly better": "the new samples get better in some settings and no worse in the others",
    "about the same": "the new samples stay about as good", "worse": "the new samples get worse",
    "partly worse": "the new samples get worse in some settings and no better in the others",
    "mixed": "the new samples get better in some settings and worse in others",
}  # fmt: skip
OLD = {
    "better": "more of the old is kept", "partly better": "more of the old is kept in some settings", "about the same": "no more of the old is kept",
    "worse": "less of the old is kept", "partly worse": "less of the old is kept in some settings", "mixed": "the old is kept better or worse by the task",
}  # fmt: skip


BOLD_NEW = {"better": "get better than plain's", "about the same": "get about as good as plain's", "worse": "get worse than plain's"}
UNSURE = "differ from plain's in some settings alone"
BOLD_OLD = {"better": "more of the old is still kept", "about the same": "no more of the old is kept", "worse": "less of the old is kept"}


def swapped_in_words(parts: Parts) -> str:
    """Which of `SWAPPED` the scores say about the swapped curves: the mean over sets and ways of guidance, against plain fine-tuning."""
    swapped, ours = (_saved(parts, method, "plain") for method in ("weightings swapped", "Diff-Tuning"))
    if abs(swapped) < ALIKE:
        return SWAPPED[2]
    return SWAPPED[3] if swapped < 0 else SWAPPED[1] if swapped < ours else SWAPPED[0]


def heavier_in_words(parts: Parts) -> str:
    """Which of `HEAVIER` the scores say about bank weight 1 beside 0.1: the mean over sets and ways of guidance."""
    saved = _saved(parts, "Diff-Tuning, weight 1", "Diff-Tuning")
    return HEAVIER[1] if abs(saved) < ALIKE else HEAVIER[0] if saved > 0 else HEAVIER[2]


def does_both(parts: Parts) -> list[str]:
    """Those of `CURVES` whose new samples are better than plain fine-tuning's, and which keep more of the old."""
    return [method for method in CURVES if new_samples(parts, method) == old_pictures(parts, method) == "better"]


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: one bold sentence, and a line for each of `CURVES`, beside plain fine-tuning."""
    old = old_pictures(parts, "reconsolidation only")
    without_bank = f"{BOLD_OLD.get(old, OLD[old])} than under plain fine-tuning"
    without_rise, swapped = (BOLD_NEW.get(new_samples(parts, method), UNSURE) for method in ("retention only", "weightings swapped"))
    if worst_of_all(parts, "weightings swapped"):
        swapped = "get worst of all"
    bold = (
        f"Drop the bank, and {without_bank}; drop the rising curve, and the new samples {without_rise}; swap the two, and they {swapped}."
    )
    lines = (f"- {words} {NEW[new_samples(parts, method)]}, and {_kept(parts, method)}." for method, words in CURVES.items())
    return f"**{bold}**\n\nBeside plain fine-tuning, method by method:\n\n" + "\n".join(lines) + f"\n\n{_what_kept_means()}"


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
    others = [name for name in ("plain", *CURVES) if name != method]
    last = {name: [ratio(parts, task, "source", name, [10]) for task in parts.tasks] for name in (method, *others)}
    return all(mine > max(last[name][n] for name in others) for n, mine in enumerate(last[method]))


def _kept(parts: Parts, method: str) -> str:
    found = old_pictures(parts, method)
    last = ", on average, though in the last tenth least of all" if found == "better" and least_kept_last(parts, method) else ""
    return OLD[found] + last


def _what_kept_means() -> str:
    return (
        "(*More is kept*: in the right panel the loss rises less than under plain fine-tuning, as a mean over the chain, by "
        f"{100 * KEPT:.0f} % of that rise at least. New samples less than {100 * ALIKE:.0f} % apart count as equally good.)"
    )


def _saved(parts: Parts, method: str, other: str) -> float:
    """log(other's distance / the method's), the mean over sets and ways of guidance."""
    return float(np.mean([distance_saved(parts, task, method, other, guidance).mean for task in parts.tasks for guidance in GUIDANCES]))
