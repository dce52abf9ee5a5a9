"""Counter-experiments (study "parts"): what should not work, beside plain fine-tuning and beside Diff-Tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts import SAME, WORSE, Parts
from .knobs import new_word, old_word
from .runs import OURS, PLAIN, listed

if TYPE_CHECKING:
    import pandas

CONTROLS = {
    "weightings swapped": "the new pictures mostly at the data end, the bank mostly at the noise end",
    "bank of noise": "random numbers in the bank's places",
    "reconsolidation only": "no bank at all",
    "bank of target pictures": "the new pictures themselves as a bank",
    "bank of real pictures": "real pictures of the source, which the method claims not to need",
}


def controls_table(parts: Parts) -> pandas.DataFrame:
    """A row for Diff-Tuning and for each control: new samples and old pictures in words, and on how many sets it was run."""
    import pandas

    rows = {}
    for method in parts.present([OURS, *CONTROLS]):
        row = {("beside plain fine-tuning", side): ask(parts, method, PLAIN) for side, ask in SIDES.items()}
        row |= {("beside Diff-Tuning", side): ask(parts, method, OURS) if method != OURS else "–" for side, ask in SIDES.items()}
        rows[method] = row | {("run on", "sets"): " and ".join(ran_on(parts, method))}
    return pandas.DataFrame(rows).T


SIDES = {"new samples": new_word, "old pictures": old_word}


def ran_on(parts: Parts, method: str) -> list[str]:
    """The tasks whose tables hold a method."""
    return [task for task in parts.tasks if ((parts.losses.task == task) & (parts.losses.method == method)).any()]


def controls_in_words(parts: Parts) -> str:
    """Which controls do as Diff-Tuning does, and which do worse."""
    found = {name: tuple(ask(parts, name, OURS) for ask in SIDES.values()) for name in parts.present(CONTROLS)}
    worse = [name for name, words in found.items() if any(word in (WORSE, "partly worse", "mixed") for word in words)]
    rest = [name for name in found if name not in worse]
    said = (
        f"Worse than Diff-Tuning in samples or in old pictures, at least in some settings: {listed(worse)}."
        if worse
        else "None of them is worse than Diff-Tuning."
    )
    if rest and worse:
        alike = [name for name in rest if set(found[name]) == {SAME}]
        said += f" Not worse anywhere: {listed(rest)}" + (f" (of these, the same everywhere: {listed(alike)})." if alike else ".")
    return said
